//! Tests of the Redis fixtures.

use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{Client, ClientTlsConfig, RedisResult, TlsCertificates, Value};
use test_support::redis::{Certificates, Fault, RedisServer, Wire};
use test_support::until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// The time limit for an event that is certain to occur.
const LIMIT: Duration = Duration::from_secs(60);

fn text(words: &str) -> Value {
    Value::BulkString(words.into())
}

/// Connects without a time limit.
async fn connect(url: &str) -> RedisResult<MultiplexedConnection> {
    connect_with(Client::open(url)?).await
}

async fn connect_with(client: Client) -> RedisResult<MultiplexedConnection> {
    let config = redis::AsyncConnectionConfig::new();
    let config = config
        .set_connection_timeout(Some(LIMIT))
        .set_response_timeout(Some(LIMIT));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

async fn incr(connection: &mut MultiplexedConnection) -> RedisResult<i64> {
    redis::cmd("INCR").arg("n").query_async(connection).await
}

/// Returns whether the process runs. A zombie does not.
fn runs(id: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn directory(server: &RedisServer) -> PathBuf {
    let Value::Array(words) = server.command(&["CONFIG", "GET", "dir"]).await else {
        panic!("no directory")
    };
    redis::from_redis_value::<String>(words[1].clone())
        .unwrap()
        .into()
}

#[tokio::test]
async fn twelve_servers_run_independently() {
    let tasks = [(); 12].map(|()| tokio::spawn(RedisServer::start()));
    let mut servers = Vec::new();
    for task in tasks {
        servers.push(task.await.unwrap());
    }
    for server in &servers {
        assert_eq!(
            server
                .command(&["SET", "port", &server.port().to_string()])
                .await,
            Value::Okay
        );
    }
    for server in &servers {
        assert_eq!(
            server.command(&["GET", "port"]).await,
            text(&server.port().to_string())
        );
        assert_eq!(server.info("persistence").await["aof_enabled"], "0");
        assert_eq!(
            server.command(&["CONFIG", "GET", "save"]).await,
            Value::Array(vec![text("save"), text("")])
        );
    }
}

#[tokio::test]
async fn a_dropped_server_removes_its_process_and_directory() {
    let server = RedisServer::start().await;
    let (id, directory) = (server.pid(), directory(&server).await);
    assert!(runs(id) && directory.is_dir());
    server.freeze();
    // As in a failing test: the panic drops the server.
    tokio::spawn(async move { assert!(!server.runs()) })
        .await
        .unwrap_err();
    assert!(!runs(id) && !directory.exists());
}

#[tokio::test]
async fn a_killed_test_leaves_no_process() {
    const CHILD: &str = "REDIS_FIXTURES_CHILD";
    let name = "fixtures::a_killed_test_leaves_no_process";
    if std::env::var_os(CHILD).is_some() {
        let server = RedisServer::start().await;
        println!("\npid={}", server.pid());
        std::future::pending::<()>().await;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let id = lines.find_map(|line| line.strip_prefix("pid=")?.parse().ok());
    let ran = id.is_some_and(runs);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ran, "no server: {id:?}");
    until("the server ends", || !id.is_some_and(runs)).await;
}

#[tokio::test]
async fn a_thawed_server_responds_again() {
    let server = RedisServer::start().await;
    let mut connection = connect(&server.url()).await.unwrap();
    server.freeze();
    let mut waiting = Box::pin(incr(&mut connection));
    tokio::time::timeout(Duration::from_millis(300), &mut waiting)
        .await
        .unwrap_err();
    server.thaw();
    assert_eq!(waiting.await.unwrap(), 1);
}

#[tokio::test]
async fn a_restarted_server_keeps_its_port_and_data() {
    for (append_only, kept) in [("yes", text("b")), ("no", Value::Nil)] {
        let builder = RedisServer::builder()
            .config("appendonly", append_only)
            .config("appendfsync", "always");
        let server = builder.start().await;
        let (id, port) = (server.pid(), server.port());
        server.command(&["SET", "a", "b"]).await;
        server.kill();
        assert!(!server.runs() && !runs(id));
        server.try_command(&["PING"]).await.unwrap_err();
        UdpSocket::bind(("127.0.0.1", port)).expect_err("its port is still claimed");
        server.restart().await;
        assert_ne!(server.pid(), id);
        assert_eq!(server.port(), port);
        assert_eq!(
            server.command(&["GET", "a"]).await,
            kept,
            "appendonly {append_only}"
        );
    }
}

#[tokio::test]
async fn a_stopped_server_saves_its_data() {
    let server = RedisServer::builder()
        .config("save", "3600 1")
        .start()
        .await;
    server.command(&["SET", "a", "b"]).await;
    server.freeze();
    server.stop().await;
    assert!(!server.runs());
    server.restart().await;
    assert_eq!(server.command(&["GET", "a"]).await, text("b"));
}

#[tokio::test]
async fn passwords_and_rules_do_not_apply_to_the_fixture() {
    let builder = RedisServer::builder()
        .password("secret")
        .user("alice on >pass ~mine:* +get +ping");
    let server = builder.start().await;
    let get = |url: String, key: &'static str| async move {
        redis::cmd("GET")
            .arg(key)
            .query_async::<Value>(&mut connect(&url).await?)
            .await
    };
    get(server.url(), "a").await.unwrap_err();
    get(server.url_with(":other@"), "a").await.unwrap_err();
    assert_eq!(
        get(server.url_with(":secret@"), "a").await.unwrap(),
        Value::Nil
    );
    get(server.url_with("alice:pass@"), "a").await.unwrap_err();
    assert_eq!(
        get(server.url_with("alice:pass@"), "mine:a").await.unwrap(),
        Value::Nil
    );
    assert_eq!(server.command(&["SET", "a", "b"]).await, Value::Okay);
}

#[tokio::test]
async fn tls_and_client_certificates_work() {
    let certificates = Certificates::generate();
    let client = |url: String, identity: bool, authority: &str| {
        let identity = identity.then(|| ClientTlsConfig {
            client_cert: certificates.client.certificate.clone().into(),
            client_key: certificates.client.key.clone().into(),
        });
        let root_cert = Some(authority.as_bytes().to_vec());
        let client = Client::build_with_tls(
            url,
            TlsCertificates {
                client_tls: identity,
                root_cert,
            },
        )
        .unwrap();
        async move {
            redis::cmd("PING")
                .query_async::<String>(&mut connect_with(client).await?)
                .await
        }
    };
    let server = RedisServer::builder().tls(&certificates).start().await;
    assert_eq!(server.command(&["SET", "a", "b"]).await, Value::Okay);
    assert!(
        server.url().starts_with("rediss://127.0.0.1:"),
        "{}",
        server.url()
    );
    for url in [server.url(), server.url().replace("127.0.0.1", "localhost")] {
        assert_eq!(client(url, false, &certificates.ca).await.unwrap(), "PONG");
    }
    client(server.url(), false, &Certificates::generate().ca)
        .await
        .unwrap_err();
    connect(&server.url().replace("rediss:", "redis:"))
        .await
        .unwrap_err();

    let strict = RedisServer::builder()
        .tls(&certificates)
        .config("tls-auth-clients", "yes")
        .start()
        .await;
    client(strict.url(), false, &certificates.ca)
        .await
        .unwrap_err();
    assert_eq!(
        client(strict.url(), true, &certificates.ca).await.unwrap(),
        "PONG"
    );
}

#[tokio::test]
async fn a_started_replica_is_in_sync() {
    let master = RedisServer::builder().password("secret").start().await;
    master.command(&["SET", "a", "b"]).await;
    let replica = RedisServer::builder()
        .replica_of(master.port())
        .start()
        .await;
    assert_eq!(replica.command(&["GET", "a"]).await, text("b"));
    assert_eq!(master.info("replication").await["connected_slaves"], "1");
}

#[tokio::test]
async fn a_dump_holds_every_key_and_value() {
    let server = RedisServer::start().await;
    let script = "redis.call('SET', 's', 'string')
        redis.call('HSET', 'h', 'field', 'of hash')
        redis.call('RPUSH', 'l', 'of list')
        redis.call('SADD', 'e', 'of set')
        redis.call('ZADD', 'z', 2, 'of zset')
        redis.call('XADD', 'x', '1-1', 'name', 'of stream')
        redis.call('SELECT', 3)
        for i = 1, 3000 do redis.call('SET', 'k' .. i, string.rep('v', 100)) end";
    server.command(&["EVAL", script, "0"]).await;
    let mut dump = server.dump().await;
    assert_eq!(
        dump.iter()
            .filter(|(key, value)| key[0] == b'k' && *value == [b'v'; 100])
            .count(),
        3000
    );
    dump.retain(|(key, _)| key[0] != b'k');
    dump.sort();
    let dump = dump
        .iter()
        .map(|(key, value)| [key, value].map(|bytes| std::str::from_utf8(bytes).unwrap()));
    let expected = [
        ["e", "of set"],
        ["h", "field"],
        ["h", "of hash"],
        ["l", "of list"],
        ["s", "string"],
        ["x", "1-1"],
        ["x", "name"],
        ["x", "of stream"],
        ["z", "2"],
        ["z", "of zset"],
    ];
    assert_eq!(dump.collect::<Vec<_>>(), expected);
}

/// Returns a server, a wire to it, and a client on the wire with all counters at zero.
async fn wired() -> (RedisServer, Wire, MultiplexedConnection) {
    let server = RedisServer::start().await;
    let wire = Wire::in_front_of(server.port()).await;
    let connection = connect(&wire.url()).await.unwrap();
    wire.commands();
    wire.round_trips();
    (server, wire, connection)
}

#[tokio::test]
async fn a_wire_records_requests_and_round_trips() {
    let (server, wire, mut connection) = wired().await;
    assert_eq!(incr(&mut connection).await.unwrap(), 1);
    assert_eq!(incr(&mut connection).await.unwrap(), 2);
    assert_eq!(wire.commands(), [["INCR", "n"], ["INCR", "n"]]);
    assert_eq!((wire.commands().len(), wire.round_trips()), (0, 2));

    let mut pipeline = redis::pipe();
    for _ in 0..20 {
        pipeline.cmd("INCR").arg("n");
    }
    pipeline
        .cmd("HGETALL")
        .arg("none")
        .cmd("GET")
        .arg("none")
        .cmd("PING");
    let answers: Vec<Value> = pipeline.query_async(&mut connection).await.unwrap();
    assert_eq!(answers.len(), 23);
    assert_eq!(wire.round_trips(), 1);
    assert_eq!(wire.commands().len(), 23);

    // Errors, large values and clients that disconnected do not confuse it.
    redis::cmd("INCR")
        .query_async::<Value>(&mut connection)
        .await
        .unwrap_err();
    let large = "x".repeat(1 << 20);
    for words in [["ECHO", &large], ["ECHO", ""]] {
        let answer: String = redis::cmd(words[0])
            .arg(words[1])
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(answer, words[1]);
    }
    drop(connection);
    let mut connection = connect(&format!("{}/?protocol=resp3", wire.url()))
        .await
        .unwrap();
    wire.round_trips();
    assert_eq!(incr(&mut connection).await.unwrap(), 23);
    let hash: Value = redis::cmd("CONFIG")
        .arg("GET")
        .arg("port")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(
        hash,
        Value::Map(vec![(text("port"), text(&server.port().to_string()))])
    );
    assert_eq!(wire.round_trips(), 2);
}

#[tokio::test]
async fn pubsub_messages_pass_through_a_wire() {
    let (server, wire, mut connection) = wired().await;
    let (sender, mut pushed) = tokio::sync::mpsc::unbounded_channel();
    let config = redis::AsyncConnectionConfig::new()
        .set_push_sender(sender)
        .set_response_timeout(Some(LIMIT));
    let client = Client::open(format!("{}/?protocol=resp3", wire.url())).unwrap();
    let mut modern = client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .unwrap();
    modern.subscribe("news").await.unwrap();
    let mut old = TcpStream::connect(("127.0.0.1", wire.port()))
        .await
        .unwrap();
    old.write_all(b"*3\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n$5\r\nother\r\n")
        .await
        .unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"other\r\n:2\r\n") {
        assert_ne!(
            old.read_buf(&mut seen).await.unwrap(),
            0,
            "the connection ended"
        );
    }
    assert_eq!(
        server.command(&["PUBLISH", "news", "hello"]).await,
        Value::Int(2)
    );
    while !seen.ends_with(b"hello\r\n") {
        assert_ne!(
            old.read_buf(&mut seen).await.unwrap(),
            0,
            "the connection ended"
        );
    }
    while pushed.recv().await.unwrap().data.last() != Some(&text("hello")) {}
    // They have not disturbed the counters.
    assert_eq!(incr(&mut modern).await.unwrap(), 1);
    wire.round_trips();
    assert_eq!(incr(&mut modern).await.unwrap(), 2);
    assert_eq!(incr(&mut connection).await.unwrap(), 3);
    assert_eq!(wire.round_trips(), 2);
}

#[tokio::test]
async fn a_dropped_request_has_no_effect_but_a_lost_reply_has() {
    for (fault, effects) in [
        (Fault::Drop, 0),
        (Fault::LoseAnswer, 1),
        (Fault::Pass, 1),
        (Fault::Repeat, 2),
    ] {
        let (server, wire, mut connection) = wired().await;
        wire.once("incr", fault.clone());
        match (incr(&mut connection).await, &fault) {
            (Err(error), Fault::Drop | Fault::LoseAnswer) => {
                assert!(error.is_connection_dropped(), "{error:?}")
            }
            (answer, _) => assert_eq!(answer.unwrap(), effects),
        }
        assert_eq!(wire.commands().len(), 1, "{fault:?}");
        let counted = server.command(&["INCR", "n"]).await;
        assert_eq!(counted, Value::Int(effects + 1), "{fault:?}");
        // Other requests pass.
        let mut connection = connect(&wire.url()).await.unwrap();
        assert_eq!(
            incr(&mut connection).await.unwrap(),
            effects + 2,
            "{fault:?}"
        );
        assert_eq!(
            incr(&mut connection).await.unwrap(),
            effects + 3,
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_held_request_takes_effect_when_released() {
    for answer_only in [false, true] {
        let (server, wire, mut connection) = wired().await;
        let gate = Arc::new(Notify::new());
        wire.once(
            "INCR",
            if answer_only {
                Fault::HoldAnswer(gate.clone())
            } else {
                Fault::Hold(gate.clone())
            },
        );
        let mut held = Box::pin(incr(&mut connection));
        tokio::time::timeout(Duration::from_millis(300), &mut held)
            .await
            .unwrap_err();
        // Other requests proceed in the meantime.
        let mut other = connect(&wire.url()).await.unwrap();
        let seen = redis::cmd("GET")
            .arg("n")
            .query_async::<Option<i64>>(&mut other)
            .await
            .unwrap();
        assert_eq!(seen, answer_only.then_some(1));
        gate.notify_one();
        assert_eq!(held.await.unwrap(), 1);
        assert_eq!(server.command(&["GET", "n"]).await, text("1"));
    }
}

#[tokio::test]
async fn a_held_request_outlives_its_client() {
    let (server, wire, mut connection) = wired().await;
    let gate = Arc::new(Notify::new());
    wire.once("INCR", Fault::Hold(gate.clone()));
    tokio::time::timeout(Duration::from_millis(300), incr(&mut connection))
        .await
        .unwrap_err();
    drop(connection);
    gate.notify_one();
    let end = Instant::now() + LIMIT;
    while server.command(&["GET", "n"]).await != text("1") {
        assert!(Instant::now() < end, "it never took effect");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_delayed_request_arrives_later() {
    let (_server, wire, mut connection) = wired().await;
    let delay = Duration::from_millis(200);
    wire.once("INCR", Fault::Delay(delay));
    let delayed = incr(&mut connection);
    tokio::pin!(delayed);
    // It was started earlier, so it ends earlier.
    let time = tokio::time::sleep(delay);
    tokio::select! {
        biased;
        () = time => {}
        answer = &mut delayed => panic!("{answer:?} arrived at once"),
    }
    assert_eq!(delayed.await.unwrap(), 1);
}

#[tokio::test]
async fn a_cut_wire_refuses_connections_until_restored() {
    let (server, wire, mut connection) = wired().await;
    wire.cut().await;
    incr(&mut connection).await.unwrap_err();
    connect(&wire.url()).await.unwrap_err();
    assert_eq!(server.command(&["GET", "n"]).await, Value::Nil);
    wire.mend().await;
    let mut connection = connect(&wire.url()).await.unwrap();
    wire.round_trips();
    assert_eq!(incr(&mut connection).await.unwrap(), 1);
    assert_eq!(wire.round_trips(), 1);
    // A server that is down closes the connection.
    server.kill();
    incr(&mut connection).await.unwrap_err();
}
