use std::sync::LazyLock;

use redis::{Cmd, cmd};

/// How many digits the count of keys has.
const COUNT_OF_KEYS: usize = 1;

/// What Redis runs in one piece.
pub(super) struct Script {
    code: &'static str,
    hash: String,
}

/// [`Store::claim`](crate::store::Store::claim).
pub(super) static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("claim.lua")));

/// [`Store::swap`](crate::store::Store::swap).
pub(super) static SWAP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("swap.lua")));

impl Script {
    fn new(code: &'static str) -> Self {
        let hash = redis::Script::new(code).get_hash().to_owned();
        Self { code, hash }
    }

    /// Runs it, if the server knows it.
    pub(super) fn by_hash(&self, keys: &[&[u8]], args: &[&[u8]]) -> Cmd {
        invocation("EVALSHA", &self.hash, keys, args)
    }

    /// Runs it, and makes the server know it: in one trip and, on a cluster, on the node of the keys.
    pub(super) fn by_code(&self, keys: &[&[u8]], args: &[&[u8]]) -> Cmd {
        invocation("EVAL", self.code, keys, args)
    }

    /// Makes the server know it.
    pub(super) fn load(&self) -> Cmd {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(self.code);
        load
    }
}

fn invocation(name: &str, script: &str, keys: &[&[u8]], args: &[&[u8]]) -> Cmd {
    let bytes = |parts: &[&[u8]]| parts.iter().map(|part| part.len()).sum::<usize>();
    let size = name.len() + script.len() + COUNT_OF_KEYS + bytes(keys) + bytes(args);
    let mut invocation = Cmd::with_capacity(3 + keys.len() + args.len(), size);
    invocation.arg(name).arg(script).arg(keys.len()).arg(keys).arg(args);
    invocation
}
