use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{Cmd, Value, cmd};

use crate::random::{OsRandom, SecureRandom as _};
use crate::store::Version;

/// The number of digits in the count of keys.
const COUNT_OF_KEYS: usize = 1;

/// A Lua script that Redis runs atomically. Its first argument is the nonce of the call. Its reply
/// is an array that begins with the nonce, or only the nonce.
pub(super) struct Script {
    pub(super) code: &'static str,
    pub(super) hash: String,
    /// Checks whether these values can follow the nonce in a reply of the script.
    returns: fn(&[Value]) -> bool,
}

/// The script of [`Store::claim`](crate::store::Store::claim).
pub(super) static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    Script::new(include_str!("claim.lua"), |values| {
        matches!(
            values,
            [Value::Nil] | [Value::Int(_) | Value::BulkString(_), Value::BulkString(_)]
        )
    })
});

/// The script of [`Store::swap`](crate::store::Store::swap).
pub(super) static SWAP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(include_str!("swap.lua"), |values| {
        matches!(values, [] | [Value::Int(0) | Value::BulkString(_)])
    })
});

/// Reads one value. It is a script because the reply to a `GET` does not identify its call.
pub(super) static READ: LazyLock<Script> = LazyLock::new(|| {
    Script::new(include_str!("read.lua"), |values| {
        matches!(values, [Value::Nil | Value::BulkString(_)])
    })
});

impl Script {
    fn new(code: &'static str, returns: fn(&[Value]) -> bool) -> Self {
        let hash = redis::Script::new(code).get_hash().to_owned();
        Self {
            code,
            hash,
            returns,
        }
    }

    /// Returns the command that loads the script.
    pub(super) fn load(&self) -> Cmd {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(self.code);
        load
    }

    /// Returns the values after the nonce; `None` if `reply` cannot be the reply to the call with
    /// this nonce.
    pub(super) fn values(&self, reply: Value, nonce: &Nonce) -> Option<Vec<Value>> {
        let is_nonce = |value: &Value| matches!(value, Value::BulkString(echo) if *echo == nonce.0);
        let values = match reply {
            Value::Array(mut values)
                if values.len() > 1 && values.first().is_some_and(is_nonce) =>
            {
                values.remove(0);
                values
            }
            nonce if is_nonce(&nonce) => Vec::new(),
            _ => return None,
        };
        (self.returns)(&values).then_some(values)
    }
}

/// Identifies a call among all calls over the same connection, including those of other processes
/// if a proxy shares the connection.
#[derive(Clone, Copy)]
pub(super) struct Nonce([u8; 8]);

impl Nonce {
    pub(super) fn next() -> Self {
        static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| {
            let mut start = [0; 8];
            // It need not be secret. If the random number generator fails, it still identifies the
            // calls of this process.
            let _ = OsRandom.fill(&mut start);
            AtomicU64::new(u64::from_ne_bytes(start))
        });
        Self(NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes())
    }

    /// Identifies a claim by the version that it writes, which is random.
    pub(super) fn of_claim(version: Version) -> Self {
        Self(*version.as_bytes())
    }
}

/// Returns the command that runs a script: `EVALSHA` with its hash, if the server has loaded it, or
/// `EVAL` with its code, which also loads it, in one round trip and, on a cluster, on the node of
/// the keys.
pub(super) fn eval(name: &str, script: &str, nonce: &Nonce, keys: &[&[u8]], args: &[&[u8]]) -> Cmd {
    let bytes = |parts: &[&[u8]]| parts.iter().map(|part| part.len()).sum::<usize>();
    let size =
        name.len() + script.len() + COUNT_OF_KEYS + bytes(keys) + bytes(args) + nonce.0.len();
    let mut command = Cmd::with_capacity(4 + keys.len() + args.len(), size);
    command
        .arg(name)
        .arg(script)
        .arg(keys.len())
        .arg(keys)
        .arg(&nonce.0)
        .arg(args);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_reply_to_this_call_is_accepted() {
        let bulk = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
        let (nonce, other) = (Nonce::next(), Nonce::next());
        let scripts: [(&Script, Vec<Value>); 8] = [
            (&CLAIM, vec![Value::Nil]),
            (&CLAIM, vec![Value::Int(5), bulk(b"entry")]),
            (&CLAIM, vec![bulk(b"entry"), bulk(b"lease")]),
            (&SWAP, vec![]),
            (&SWAP, vec![Value::Int(0)]),
            (&SWAP, vec![bulk(b"entry")]),
            (&READ, vec![Value::Nil]),
            (&READ, vec![bulk(b"entry")]),
        ];
        for (script, values) in scripts {
            let is_bare = values.is_empty();
            let reply = |nonce: &Nonce| match bulk(&nonce.0) {
                nonce if is_bare => nonce,
                nonce => Value::Array([&[nonce], &values[..]].concat()),
            };
            assert_eq!(script.values(reply(&nonce), &nonce), Some(values.clone()));
            assert_eq!(
                script.values(reply(&other), &nonce),
                None,
                "the nonce of another call: {values:?}"
            );
            let others = [
                Value::Nil,
                Value::Okay,
                Value::Int(1),
                bulk(&nonce.0),
                bulk(b"entry"),
                Value::Array(vec![]),
                Value::Array(values.clone()),
                Value::Array(vec![bulk(&nonce.0)]),
                Value::Array([&[bulk(&nonce.0)], &values[..], &[Value::Int(1)]].concat()),
                Value::Array(vec![bulk(&nonce.0), Value::Okay]),
                Value::Array(vec![bulk(&nonce.0), Value::Int(2)]),
                Value::Map(vec![(bulk(&nonce.0), Value::Int(1))]),
            ];
            for reply in others {
                // The reply to a swap that was made.
                if script.hash == SWAP.hash && reply == bulk(&nonce.0) {
                    continue;
                }
                assert_eq!(
                    script.values(reply.clone(), &nonce),
                    None,
                    "{reply:?} for {values:?}"
                );
            }
        }
    }
}
