//! Crash points and random days over engine and store.
