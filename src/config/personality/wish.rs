//! What another init was asked for, and what that is in clinit's own terms.

use std::ffi::{OsStr, OsString};

use super::super::plain::Plain;
use super::super::policy::{Circumstances, policy};
use super::super::settings::Settings;
use super::super::sizing::Instances;
use super::super::{Config, Invocation, Parsed, log_options, sizing};
use super::Manner;
use crate::supervisor::policy::{Meaning, Mode, Policy, Routes, Signal, Target};

/// A command, and what is wanted of the init that runs it.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Wish {
    pub(super) manner: Manner,
    pub(super) command: Vec<OsString>,
    /// Signals are for the command's whole process group.
    pub(super) to_group: bool,
    pub(super) warn_reaped: bool,
    /// What its parent's death is to bring the init.
    pub(super) parent_death: Option<Signal>,
    /// Exit codes of the command that are to be 0.
    pub(super) ok_codes: Vec<u8>,
    /// Signals that are not to be forwarded as they are.
    pub(super) rewritten: Vec<(Signal, Rewrite)>,
}

/// What comes of a signal instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Rewrite {
    /// It is dropped.
    Nothing,
    /// Another one is forwarded.
    Signal(Signal),
    /// The command is stopped, and then the init.
    Suspend,
}

impl Wish {
    pub(super) fn new(manner: Manner) -> Self {
        Self {
            manner,
            command: Vec::new(),
            to_group: false,
            warn_reaped: false,
            parent_death: None,
            ok_codes: Vec::new(),
            rewritten: Vec::new(),
        }
    }

    /// What another init was asked for, in clinit's own terms. None of its own
    /// variables counts.
    pub(in super::super) fn parsed(self, env: &[(OsString, OsString)]) -> Parsed {
        let settings = Settings::default();
        let log = log_options(&settings, Mode::Init);
        let circumstances = Circumstances {
            mode: Mode::Init,
            in_kubernetes: false,
            has_listener: false,
            program: OsStr::new(""),
        };
        let mut routes = Routes::default();
        for (signal, rewrite) in self.rewritten {
            let meaning = match rewrite {
                Rewrite::Nothing => Meaning::Nothing,
                Rewrite::Signal(other) => Meaning::Forward(other),
                Rewrite::Suspend => Meaning::Suspend,
            };
            routes.set(signal, meaning);
        }
        let config = Config {
            policy: Policy {
                routes,
                forward_to: if self.to_group {
                    Target::Group
                } else {
                    Target::Main
                },
                leaves_survivors: true,
                ..policy(&settings, &circumstances)
            },
            command: self.command,
            sizing: sizing(&settings, Instances::Exactly(1), &[], &mut Vec::new()),
            listeners: Vec::new(),
            share: settings.share,
            capture: settings.capture,
            capture_route: None,
            dialects: settings.dialects,
            credentials: None,
            chdir: None,
            environment: env.to_vec(),
            env_steps: Vec::new(),
            pin: false,
            max_memory: None,
            control: settings.control,
            ready_during_drain: false,
            plain: Plain {
                parent_death: self.parent_death,
                ok_codes: self.ok_codes,
                warn_reaped: self.warn_reaped,
            },
            manner: Some(self.manner),
        };
        Parsed {
            invocation: Invocation::Run(Box::new(config)),
            notes: Vec::new(),
            log,
        }
    }
}
