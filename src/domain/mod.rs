//! What an approval is: people, subjects, requests, rules, and the one pure decision. It has no clock, no randomness and
//! no I/O.
//!
//! One word per idea, here and everywhere:
//! an approval *request* is one change or action that waits for people; its *subject* is exactly what is approved; a
//! *rule* of a *policy* that matches puts an *obligation* on it; a *person* makes a *decision* by one ceremony; the
//! *credential* is the signed proof of one decision; the *outcome* is what the request became; the *journal* is the log
//! of all that happened, a *checkpoint* its signed head; a *follower* tells the world at its own pace.

pub mod apply;
pub mod attention;
pub mod branch;
pub mod command;
pub mod condition;
pub mod danger;
pub mod decide;
pub mod deployment;
pub mod event;
pub mod facts;
pub mod follow_up;
pub mod gate;
pub mod governance;
pub mod ids;
pub mod keys;
pub mod notice;
pub mod people;
pub mod policy;
pub mod project;
pub mod provision;
pub mod refusal;
pub mod request;
pub mod retention;
pub mod review;
pub mod rollback;
pub mod search;
pub mod set_up;
pub mod sink;
pub mod state;
pub mod text;
pub mod time;
pub mod totp;
pub mod view;
