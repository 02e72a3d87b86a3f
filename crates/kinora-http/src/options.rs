//! What a server is started with.

use std::time::Duration;

/// Where to listen, and whom to trust.
#[derive(Clone)]
pub struct Options {
    /// IP address, or `localhost`.
    pub host: String,
    /// Port; 0: any free one.
    pub port: u16,
    /// What clients have to show. None: nothing, which only loopback addresses may.
    pub token: Option<String>,
    /// Further names under which clients may address the server, as a proxy or a router gives them.
    pub allowed_hosts: Vec<String>,
    /// Pages of other origins that may ask, such as `tauri://localhost`, the desktop window's own.
    pub trusted_origins: Vec<String>,
    /// How live sockets are told from dead ones.
    pub sockets: SocketTiming,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 0,
            token: None,
            allowed_hosts: Vec::new(),
            trusted_origins: Vec::new(),
            sockets: SocketTiming::default(),
        }
    }
}

// By hand: the token stays out of logs.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("has_token", &self.token.is_some())
            .field("allowed_hosts", &self.allowed_hosts)
            .field("trusted_origins", &self.trusted_origins)
            .field("sockets", &self.sockets)
            .finish()
    }
}

/// When a socket is asked for a sign of life, and when it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketTiming {
    /// Time between pings.
    pub ping: Duration,
    /// Time without any message from the other side, pongs included, after which it counts as dead;
    /// also how long one message may take to be sent.
    pub dead: Duration,
}

impl Default for SocketTiming {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(20),
            dead: Duration::from_secs(50),
        }
    }
}

/// A fresh token: 256 bits of the thread's cryptographic generator, in hex.
pub fn generate_token() -> String {
    let bits: [u8; 32] = rand::random();
    bits.iter().map(|byte| format!("{byte:02x}")).collect()
}
