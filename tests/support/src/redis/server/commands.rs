//! Commands to the server, and what it contains.

use std::collections::HashMap;
use std::time::Instant;

use redis::{RedisResult, Value};

use super::{LIMIT, POLL, RedisServer};

impl RedisServer {
    /// Sends one command, over a new connection and as a user with all rights. Panics if the
    /// command is rejected.
    pub async fn command<A: AsRef<[u8]>>(&self, words: &[A]) -> Value {
        self.try_command(words)
            .await
            .unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub async fn try_command<A: AsRef<[u8]>>(&self, words: &[A]) -> RedisResult<Value> {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word.as_ref());
        }
        command.query_async(&mut self.connect().await?).await
    }

    /// Returns the fields of `INFO section`.
    pub async fn info(&self, section: &str) -> HashMap<String, String> {
        self.try_info(section)
            .await
            .unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    async fn try_info(&self, section: &str) -> RedisResult<HashMap<String, String>> {
        let text: String = redis::cmd("INFO")
            .arg(section)
            .query_async(&mut self.connect().await?)
            .await?;
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Ok(fields
            .map(|(name, value)| (name.into(), value.into()))
            .collect())
    }

    /// Waits until `INFO section` fits. In the meantime the server may be down or close
    /// connections, as it does when it changes its role.
    pub async fn until_info(
        &self,
        section: &str,
        what: &str,
        fits: impl Fn(&HashMap<String, String>) -> bool,
    ) {
        let end = Instant::now() + LIMIT;
        while !self.try_info(section).await.is_ok_and(|info| fits(&info)) {
            assert!(Instant::now() < end, "it does not reach {what}: {self:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Returns every key of every database, once for each of its values; the fields of a hash count
    /// as values as well.
    pub async fn dump(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.try_dump()
            .await
            .unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    async fn try_dump(&self) -> RedisResult<Vec<(Vec<u8>, Vec<u8>)>> {
        let databases = self.try_info("keyspace").await?;
        let mut connection = self.connect().await?;
        let mut found = Vec::new();
        for database in databases.keys().filter_map(|name| name.strip_prefix("db")) {
            let _: Value = redis::cmd("SELECT")
                .arg(database)
                .query_async(&mut connection)
                .await?;
            let mut cursor = 0_u64;
            loop {
                let scan = redis::cmd("SCAN")
                    .arg(cursor)
                    .arg("COUNT")
                    .arg(1000)
                    .to_owned();
                let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut connection).await?;
                for key in keys {
                    let kind: String = redis::cmd("TYPE")
                        .arg(&key)
                        .query_async(&mut connection)
                        .await?;
                    let mut get = redis::Cmd::new();
                    match &*kind {
                        // The key has expired since.
                        "none" => continue,
                        "string" => get.arg("GET").arg(&key),
                        "hash" => get.arg("HGETALL").arg(&key),
                        "list" => get.arg("LRANGE").arg(&key).arg(0).arg(-1),
                        "set" => get.arg("SMEMBERS").arg(&key),
                        "zset" => get.arg("ZRANGE").arg(&key).arg(0).arg(-1).arg("WITHSCORES"),
                        "stream" => get.arg("XRANGE").arg(&key).arg("-").arg("+"),
                        other => panic!("a value of type {other}"),
                    };
                    flatten(&get.query_async(&mut connection).await?, &mut |value| {
                        found.push((key.clone(), value.to_vec()));
                    });
                }
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(found)
    }
}

fn flatten(value: &Value, each: &mut impl FnMut(&[u8])) {
    match value {
        Value::BulkString(bytes) => each(bytes),
        Value::SimpleString(text) => each(text.as_bytes()),
        Value::Int(number) => each(number.to_string().as_bytes()),
        Value::Double(number) => each(number.to_string().as_bytes()),
        Value::Array(values) | Value::Set(values) => {
            values.iter().for_each(|value| flatten(value, each))
        }
        Value::Map(pairs) => pairs.iter().for_each(|(name, value)| {
            flatten(name, each);
            flatten(value, each);
        }),
        Value::Nil => {}
        other => panic!("not a value: {other:?}"),
    }
}
