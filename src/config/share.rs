//! How workers share a port, and which of the ports that they bind
//! themselves.

use super::units::whole;

/// How the workers share a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// [`Self::Slots`], except [`Self::Queue`] for unix sockets.
    #[default]
    Auto,
    /// Each worker has an accept queue of its own, which outlives it.
    Slots,
    /// One accept queue, every worker's.
    Queue,
    /// Nothing is shared.
    Off,
}

impl Share {
    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Slots => "slots",
            Self::Queue => "queue",
            Self::Off => "off",
        }
    }

    /// Reads `auto`, `slots`, `queue` or `off`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "slots" => Ok(Self::Slots),
            "queue" => Ok(Self::Queue),
            "off" => Ok(Self::Off),
            _ => Err("accepted are auto, slots, queue and off".into()),
        }
    }
}

/// Which of the ports that workers bind themselves are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Capture {
    /// Every TCP port.
    #[default]
    Auto,
    /// None, and workers run without a filter and without `no_new_privs`.
    Off,
    /// These: at least one, none of them 0, none of them twice, in the order
    /// in which they were given.
    Ports(Vec<u16>),
}

impl Capture {
    /// Reads `auto`, `off`, or ports as in `8080,8443`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => return Ok(Self::Auto),
            "off" => return Ok(Self::Off),
            _ => {}
        }
        let mut ports = Vec::new();
        for port in text.split(',') {
            let port = whole::<u16>(port.trim_ascii())
                .filter(|port| *port > 0)
                .ok_or("accepted are auto, off, and ports from 1 to 65535, as in 8080,8443")?;
            if ports.contains(&port) {
                return Err(format!("port {port} is given twice: once is accepted"));
            }
            ports.push(port);
        }
        Ok(Self::Ports(ports))
    }
}

/// A way to a worker's socket, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// `pidfd_getfd(2)`.
    Duplicate,
    /// The worker is made to send it (`ptrace(2)`).
    Trace,
    /// None: another socket takes its place.
    Replace,
}

impl Route {
    /// Reads `pidfd_getfd`, `ptrace` or `replace`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let all = [Self::Duplicate, Self::Trace, Self::Replace];
        all.into_iter().find(|route| route.name() == text)
    }

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "pidfd_getfd",
            Self::Trace => "ptrace",
            Self::Replace => "replace",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_share() {
        for (text, share) in [
            ("auto", Share::Auto),
            ("slots", Share::Slots),
            ("queue", Share::Queue),
            ("off", Share::Off),
        ] {
            assert_eq!(Share::parse(text), Ok(share), "{text}");
        }
        for text in ["", "Auto", "slots,queue", " off", "none", "0"] {
            let refused = Share::parse(text).expect_err(text);
            assert_eq!(refused, "accepted are auto, slots, queue and off");
        }
    }

    #[test]
    fn ways_to_a_socket() {
        for text in ["pidfd_getfd", "ptrace", "replace"] {
            assert_eq!(Route::parse(text).map(Route::name), Some(text));
        }
        for text in ["", "Ptrace", "getfd", "auto"] {
            assert_eq!(Route::parse(text), None, "{text}");
        }
    }

    #[test]
    fn ports_to_capture() {
        for (text, capture) in [
            ("auto", Capture::Auto),
            ("off", Capture::Off),
            ("1", Capture::Ports(vec![1])),
            ("65535", Capture::Ports(vec![65535])),
            ("8443,8080", Capture::Ports(vec![8443, 8080])),
            ("80, 443", Capture::Ports(vec![80, 443])),
        ] {
            assert_eq!(Capture::parse(text), Ok(capture), "{text}");
        }
    }

    #[test]
    fn what_is_no_port_to_capture() {
        for text in [
            "", ",", "80,", ",80", "80,,443", "0", "80,0", "65536", "-1", "+1", "80-90", "80 443",
            ":80", "http", "Off", "auto,80", "80,off", "٣",
        ] {
            let refused = Capture::parse(text).expect_err(text);
            let accepted = "accepted are auto, off, and ports from 1 to 65535, as in 8080,8443";
            assert_eq!(refused, accepted, "{text}");
        }
        for text in ["80,80", "443,80,080"] {
            let refused = Capture::parse(text).expect_err(text);
            assert_eq!(refused, "port 80 is given twice: once is accepted");
        }
    }
}
