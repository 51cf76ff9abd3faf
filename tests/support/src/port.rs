//! Ports that are reserved for a test.

use std::net::{TcpListener, UdpSocket};

/// The address of every fixture.
pub(crate) const HOST: &str = "127.0.0.1";

/// A port that no other fixture takes, in any process, even while no server listens on it.
///
/// It lies below those that the system assigns to outgoing connections: otherwise a client that
/// connects to the port of a server that is down could be assigned that same port, and be connected
/// to itself. The same holds for the port on which the nodes of a cluster talk to each other,
/// 10,000 above.
pub(crate) struct Port {
    number: u16,
    /// The reservation: UDP has separate ports, and the system frees them when a process ends in
    /// any way.
    _claim: UdpSocket,
}

impl Port {
    pub(crate) fn free() -> Self {
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

    pub(crate) const fn number(&self) -> u16 {
        self.number
    }
}
