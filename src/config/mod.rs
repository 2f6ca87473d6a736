//! From a command line and an environment to a configuration.
