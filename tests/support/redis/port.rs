//! Ports that stay with a test.

use std::net::{TcpListener, UdpSocket};

use super::server::HOST;

/// A port that no other fixture takes, in whatever process, even while nobody listens on it.
///
/// It lies below those that the system gives to outgoing connections: a client that knocks at the
/// port of a server that is away would some day be given that very port, and be connected to
/// itself. The same goes for the port on which the nodes of a cluster talk to each other, 10,000
/// above.
pub(super) struct Port {
    number: u16,
    /// What claims it: UDP has ports of its own, and the system gives them back when a process ends
    /// in any way.
    _claim: UdpSocket,
}

impl Port {
    pub(super) fn free() -> Self {
        loop {
            let number = 10_000 + u16::try_from(getrandom::u32().unwrap() % 10_000).unwrap();
            if let Ok(claim) = UdpSocket::bind((HOST, number))
                && TcpListener::bind((HOST, number)).is_ok()
            {
                return Self {
                    number,
                    _claim: claim,
                };
            }
        }
    }

    pub(super) const fn number(&self) -> u16 {
        self.number
    }
}
