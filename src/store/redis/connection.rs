use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{Cmd, RedisResult, Value};
use tokio_util::task::AbortOnDropHandle;

use super::error::{Failure, Kind};
use super::scripts::{CLAIM, Nonce, READ, SWAP, Script, eval};

/// A connection to one Redis server, or one to each node of a cluster. A clone is another handle to
/// it.
#[derive(Clone)]
pub(super) enum Connection {
    Server(Server),
    Cluster(ClusterConnection),
}

/// A connection to one server. It is closed when its last handle is dropped.
#[derive(Clone)]
pub(super) struct Server {
    connection: MultiplexedConnection,
    /// The task that reads and writes the bytes of the connection.
    driver: Arc<AbortOnDropHandle<()>>,
}

impl Server {
    pub(super) fn new(
        connection: MultiplexedConnection,
        driver: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self {
            connection,
            driver: Arc::new(AbortOnDropHandle::new(tokio::spawn(driver))),
        }
    }

    /// Closes the connection for all handles. Calls in flight fail at once.
    pub(super) fn close(&self) {
        self.driver.abort();
    }

    pub(super) async fn query(&self, cmd: &Cmd) -> RedisResult<Value> {
        cmd.query_async(&mut self.connection.clone()).await
    }

    pub(super) async fn subscribe(&self, channel: &str) -> RedisResult<()> {
        self.connection.clone().subscribe(channel).await
    }
}

/// A request over a connection. Every request is idempotent.
pub(super) enum Call<'a> {
    /// A `PUBLISH`, to any node of a cluster.
    Publish(Cmd),
    Run(Invocation<'a>),
}

/// A call of a script.
pub(super) struct Invocation<'a> {
    pub(super) script: &'static Script,
    pub(super) nonce: Nonce,
    pub(super) keys: &'a [&'a [u8]],
    pub(super) args: &'a [&'a [u8]],
    pub(super) replicas: Option<ReplicaWait>,
}

/// The condition for the success of a write: `count` replicas acknowledge it within `timeout`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplicaWait {
    pub(super) count: u32,
    pub(super) timeout: Duration,
}

/// The reply to a [`Call`].
pub(super) struct Answer {
    /// The values that a script returned after the nonce.
    pub(super) values: Vec<Value>,
    /// Fails if enough replicas have not acknowledged the entry that was written or found.
    ///
    /// An entry that was found was written by another call. If a failover loses that write, a
    /// refusal or a token that was based on it costs the client its grant. The same is true for the
    /// reply of a master that has been replaced and does not know it: its replicas have left it.
    pub(super) replicated: Result<(), Failure>,
}

impl Connection {
    pub(super) async fn send(&mut self, call: &Call<'_>) -> Result<Answer, Failure> {
        match (self, call) {
            (Self::Server(server), Call::Run(invocation)) => {
                invoke(&mut server.connection, invocation).await
            }
            (Self::Server(server), Call::Publish(cmd)) => published(server.query(cmd).await?),
            // Boxed, so that the futures of calls to a single server stay small.
            (Self::Cluster(nodes), Call::Run(invocation)) => {
                Box::pin(invoke(nodes, invocation)).await
            }
            (Self::Cluster(nodes), Call::Publish(cmd)) => {
                let any = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
                published(Box::pin(nodes.route_command(cmd.clone(), any)).await?)
            }
        }
    }

    /// Loads the scripts into the servers. A script that cannot be loaded is sent when it is first
    /// needed. Fails if that has another reason than a lack of permission, because the server may
    /// not be ready, or a node of a cluster may be down.
    pub(super) async fn load(&self) -> Result<(), Failure> {
        match self {
            Self::Server(server) => load(&mut server.connection.clone()).await,
            Self::Cluster(connection) => load(&mut connection.clone()).await,
        }
    }
}

async fn load(connection: &mut impl ConnectionLike) -> Result<(), Failure> {
    let mut result = Ok(());
    for script in [&CLAIM, &SWAP, &READ] {
        let loaded = script.load().query_async::<Value>(connection).await;
        if let Err(failure) = loaded.map_err(Failure::from) {
            tracing::debug!(%failure, "SCRIPT LOAD failed: the script is sent when it is first needed");
            if failure.kind() != Kind::Permission {
                result = Err(failure);
            }
        }
    }
    result
}

async fn invoke(
    connection: &mut impl ConnectionLike,
    invocation: &Invocation<'_>,
) -> Result<Answer, Failure> {
    let &Invocation {
        script,
        ref nonce,
        keys,
        args,
        replicas,
    } = invocation;
    let call = |name, script| eval(name, script, nonce, keys, args);
    let answer = match run(connection, call("EVALSHA", &*script.hash), replicas).await {
        Err(failure) if failure.kind() == Kind::NoScript => {
            // Boxed, because it is rare.
            Box::pin(run(connection, call("EVAL", script.code), replicas)).await
        }
        answer => answer,
    };
    let (reply, replicated) = answer?;
    let values = script
        .values(reply, nonce)
        .ok_or_else(Failure::out_of_step)?;
    Ok(Answer { values, replicated })
}

/// Accepts only a reply that `PUBLISH` can have: the number of subscribers.
fn published(reply: Value) -> Result<Answer, Failure> {
    match reply {
        Value::Int(_) => Ok(Answer {
            values: Vec::new(),
            replicated: Ok(()),
        }),
        _ => Err(Failure::out_of_step()),
    }
}

async fn run(
    connection: &mut impl ConnectionLike,
    script: Cmd,
    replicas: Option<ReplicaWait>,
) -> Result<(Value, Result<(), Failure>), Failure> {
    let Some(ReplicaWait { count, timeout }) = replicas else {
        return Ok((script.query_async(connection).await?, Ok(())));
    };
    let mut pipeline = redis::pipe();
    let timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    pipeline
        .add_command(script)
        .cmd("WAIT")
        .arg(count)
        .arg(timeout)
        .ignore_errors();
    // Boxed, so that the futures of calls that do not wait stay small.
    let answers: Vec<RedisResult<Value>> = Box::pin(pipeline.query_async(connection)).await?;
    let mut answers = answers.into_iter();
    let (Some(value), Some(replicas)) = (answers.next(), answers.next()) else {
        return Err(Failure::out_of_step());
    };
    let value = value?;
    let Value::Int(reached) = replicas? else {
        return Err(Failure::out_of_step());
    };
    let replicated = if reached >= i64::from(count) {
        Ok(())
    } else {
        let message = format!(
            "too few replicas ({reached} of {count} acknowledged the write in time): a failover could lose it"
        );
        Err(Failure::new(Kind::Other, message))
    };
    Ok((value, replicated))
}
