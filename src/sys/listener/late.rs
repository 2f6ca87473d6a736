//! Keeping new connections out of a socket that goes on listening
//! (`socket(7)`).

use std::ffi::c_int;
use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;

use super::Listener;
use super::address::Transport;
use super::lane::{Instruction, as_filters};

/// asm-generic/socket.h; libc lacks it for musl.
const SO_BINDTOIFINDEX: c_int = 62;

/// The number of a network device that there never is.
const NOWHERE: c_int = c_int::MAX;

/// The flags of a TCP header are its byte 13, where a filter's data begins
/// with that header. A first packet has `SYN` (2) and not `ACK` (16); it is
/// dropped, and all else is kept whole.
const NO_FIRST_PACKET: [Instruction; 5] = [
    (0x30, 0, 0, 13),
    (0x54, 0, 0, 18),
    (0x15, 0, 1, 2),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, u32::MAX),
];

/// How a client that comes late fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// It is refused at once, as if nobody listened.
    Refused,
    /// It hears nothing until nobody does listen, and tries again after a
    /// second, two more, and so on.
    Unheard,
    /// It is taken in: the socket is not clinit's alone.
    Welcome,
}

impl Listener {
    /// Keeps new connections out, for whoever has the socket. Those that wait
    /// are still there to be accepted, and handshakes under way come to their
    /// end.
    ///
    /// A socket that is bound to a network device is not found by what comes
    /// from another: so it is bound to one that does not exist. Linux 5.7 and
    /// later let anybody do that once; on earlier ones a filter does its part.
    ///
    /// # Errors
    ///
    /// Those of `setsockopt(2)`, of both ways: no memory.
    pub fn keep_out(&self) -> io::Result<Late> {
        if self.is_others_too || self.transport != Transport::Tcp {
            return Ok(Late::Welcome);
        }
        if self.set(SO_BINDTOIFINDEX, &NOWHERE).is_ok() {
            return Ok(Late::Refused);
        }
        self.drop_first_packets()?;
        Ok(Late::Unheard)
    }

    fn drop_first_packets(&self) -> io::Result<()> {
        let mut instructions = as_filters(&NO_FIRST_PACKET);
        let program = libc::sock_fprog {
            len: u16::try_from(instructions.len()).map_err(|_| Errno::EINVAL)?,
            filter: instructions.as_mut_ptr(),
        };
        self.set(libc::SO_ATTACH_FILTER, &program)
    }

    /// Sets an option of `socket(7)`, whose value may point to what lives
    /// through the call.
    pub(super) fn set<T>(&self, option: c_int, value: &T) -> io::Result<()> {
        let length = libc::socklen_t::try_from(size_of::<T>()).map_err(|_| Errno::EINVAL)?;
        // SAFETY: the value is readable for its length.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                std::ptr::from_ref(value).cast(),
                length,
            )
        };
        Ok(Errno::result(result).map(drop)?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
    use std::time::Duration;

    use super::super::{Address, adopt, bind};
    use super::*;

    fn lanes(addr: SocketAddr) -> [Listener; 2] {
        let only_v6 = false;
        let first = bind(&Address::Tcp { addr, only_v6 }).unwrap();
        first.share_port().unwrap();
        let second = first.sibling().unwrap();
        [first, second]
    }

    fn patiently(addr: SocketAddr) -> std::io::Result<TcpStream> {
        TcpStream::connect_timeout(&addr, Duration::from_millis(200))
    }

    /// All that wait are accepted, and answered.
    fn answer(lanes: &[Listener]) -> usize {
        let mut answered = 0;
        for lane in lanes {
            while lane.queued() > 0 {
                let (mut connection, _) = lane.socket.accept().unwrap();
                connection.write_all(b"x").unwrap();
                answered += 1;
            }
        }
        answered
    }

    #[test]
    fn late_clients_are_refused_and_those_that_wait_are_answered() {
        for host in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let lanes = lanes(SocketAddr::new(host, 0));
            let address = lanes[0].address().unwrap();
            let mut clients = [(); 16].map(|()| TcpStream::connect(address).unwrap());
            for lane in &lanes {
                assert_eq!(lane.keep_out().unwrap(), Late::Refused);
            }
            let late = patiently(address).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::ConnectionRefused, "{late}");
            assert_eq!(answer(&lanes), 16);
            for client in &mut clients {
                client.read_exact(&mut [0]).unwrap();
            }
        }
    }

    /// With `TCP_DEFER_ACCEPT` it is under way until the client has spoken.
    #[test]
    fn a_handshake_under_way_comes_to_its_end() {
        for filtered in [false, true] {
            let lanes = lanes((Ipv4Addr::LOCALHOST, 0).into());
            let address = lanes[0].address().unwrap();
            let seconds = 60_i32;
            for lane in &lanes {
                // SAFETY: TCP_DEFER_ACCEPT reads an int, which lives through
                // the call.
                let result = unsafe {
                    libc::setsockopt(
                        lane.socket.as_raw_fd(),
                        libc::IPPROTO_TCP,
                        libc::TCP_DEFER_ACCEPT,
                        (&raw const seconds).cast(),
                        4,
                    )
                };
                assert_eq!(result, 0);
            }
            let mut client = TcpStream::connect(address).unwrap();
            for lane in &lanes {
                if filtered {
                    lane.drop_first_packets().unwrap();
                } else {
                    lane.keep_out().unwrap();
                }
            }
            let late = patiently(address).unwrap_err().kind();
            let expected = if filtered {
                ErrorKind::TimedOut
            } else {
                ErrorKind::ConnectionRefused
            };
            assert_eq!(late, expected);
            client.write_all(b"?").unwrap();
            assert_eq!(answer(&lanes), 1);
            client.read_exact(&mut [0]).unwrap();
        }
    }

    #[test]
    fn a_socket_that_others_have_too_stays_as_it_is() {
        let [first, second] = lanes((Ipv4Addr::LOCALHOST, 0).into());
        drop(second);
        let address = first.address().unwrap();
        let adopted = adopt(first.socket.into()).unwrap();
        assert_eq!(adopted.keep_out().unwrap(), Late::Welcome);
        assert!(patiently(address).is_ok());
    }
}
