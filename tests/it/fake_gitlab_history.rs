//! Checks the fake GitLab's history: branches, compares, merges of every method, pushes around the merge button, lists.
//! Nothing here starts the appliance.
