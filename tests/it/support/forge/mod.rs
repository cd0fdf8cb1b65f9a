//! Fake forges: real HTTP servers on loopback that keep a forge's state and its refusals.

#[allow(dead_code, reason = "each flow uses its part of the fake")]
pub mod bitbucket_cloud;
#[allow(dead_code, reason = "each flow uses its part of the fake")]
pub mod bitbucket_data_center;
pub mod description;
pub mod front;
#[allow(dead_code, reason = "each flow uses its part of the fake")]
pub mod github;
#[expect(dead_code, reason = "each flow uses its part of the fake")]
pub mod gitlab;
#[allow(dead_code, reason = "each fake uses its part")]
pub mod host;
