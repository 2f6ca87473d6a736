//! The system: all unsafe code, by system call family.
