//! What the tests drive the program with: the real binary, real forges in miniature, a software passkey, a browser.

pub mod appliance;
pub mod authenticator;
pub mod authority;
pub mod browser;
pub mod forge;
pub mod gated;
pub mod gated_bitbucket_cloud;
pub mod gated_bitbucket_data_center;
pub mod gated_github;
pub mod long_journal;
pub mod monitor;
pub mod person;
pub mod postman;
pub mod problem;
pub mod push;
pub mod receivers;
pub mod token;
