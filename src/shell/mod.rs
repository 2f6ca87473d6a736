//! Waits for events, performs actions.
