//! Checks what the fake GitLab gates with: approvals, external status checks, jobs, deployments.
//! Nothing here starts the appliance.
