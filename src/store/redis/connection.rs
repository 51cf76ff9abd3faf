use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{
    MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo, SingleNodeRoutingInfo,
};
use redis::{Cmd, RedisResult, Value};
use tokio_util::task::AbortOnDropHandle;

use super::error::{Failure, Kind};
use super::scripts::{Nonce, Script};

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
    /// A `PING`. On a cluster, the first node that answers decides.
    Ping,
    /// A `PUBLISH`, to any node of a cluster.
    Publish(Cmd),
    Run {
        script: &'static Script,
        nonce: Nonce,
        keys: &'a [&'a [u8]],
        args: &'a [&'a [u8]],
        replicas: Option<ReplicaWait>,
    },
}

/// The condition for the success of a write: `count` replicas acknowledge it within `timeout`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplicaWait {
    pub(super) count: u32,
    pub(super) timeout: Duration,
}

/// The reply to a [`Call`].
pub(super) struct Answer {
    /// The values that a script returned after the nonce, or the value that a command returned.
    pub(super) values: Vec<Value>,
    /// The number of replicas that acknowledged the write, if they were waited for.
    pub(super) replicas: Option<i64>,
}

impl Connection {
    pub(super) async fn send(&mut self, call: &Call<'_>) -> Result<Answer, Failure> {
        match self {
            Self::Server(server) => send(&mut server.connection, call).await,
            // Boxed, so that the futures of calls to a single server stay small.
            Self::Cluster(connection) => Box::pin(send_to_cluster(connection, call)).await,
        }
    }

    /// Loads the scripts into the servers. If this fails because of permissions, or because a node
    /// of a cluster is down, each script is sent when it is first needed.
    pub(super) async fn load(&self, scripts: &[&Script]) -> Result<(), Failure> {
        for script in scripts {
            let loaded = self.query(&script.load()).await.map_err(Failure::from);
            match loaded {
                Ok(_) => {}
                Err(failure)
                    if failure.kind() == Kind::Permission || matches!(self, Self::Cluster(_)) =>
                {
                    tracing::debug!(%failure, "SCRIPT LOAD failed: the script is sent when it is first needed");
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    pub(super) async fn query(&self, cmd: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Server(server) => server.query(cmd).await,
            Self::Cluster(connection) => cmd.query_async(&mut connection.clone()).await,
        }
    }
}

async fn send_to_cluster(
    connection: &mut ClusterConnection,
    call: &Call<'_>,
) -> Result<Answer, Failure> {
    let (cmd, nodes) = match call {
        // To all nodes, because a random one may be the one that hangs.
        Call::Ping => (
            redis::cmd("PING"),
            RoutingInfo::MultiNode((
                MultipleNodeRoutingInfo::AllNodes,
                Some(ResponsePolicy::OneSucceeded),
            )),
        ),
        Call::Publish(cmd) => (
            cmd.clone(),
            RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random),
        ),
        Call::Run { .. } => return send(connection, call).await,
    };
    let value = connection.route_command(cmd, nodes).await?;
    call.command_answer(value)
}

async fn send(connection: &mut impl ConnectionLike, call: &Call<'_>) -> Result<Answer, Failure> {
    match *call {
        Call::Ping => call.command_answer(redis::cmd("PING").query_async(connection).await?),
        Call::Publish(ref cmd) => call.command_answer(cmd.query_async(connection).await?),
        Call::Run {
            script,
            ref nonce,
            keys,
            args,
            replicas,
        } => {
            let answer = match run(connection, script.by_hash(nonce, keys, args), replicas).await {
                Err(failure) if failure.kind() == Kind::NoScript => {
                    // Boxed, because it is rare.
                    Box::pin(run(connection, script.by_code(nonce, keys, args), replicas)).await
                }
                answer => answer,
            };
            let (reply, replicas) = answer?;
            let values = script
                .values(reply, nonce)
                .ok_or_else(Failure::out_of_step)?;
            Ok(Answer { values, replicas })
        }
    }
}

impl Call<'_> {
    /// Accepts only a value that the command can return.
    fn command_answer(&self, value: Value) -> Result<Answer, Failure> {
        let fits = match (self, &value) {
            (Self::Ping, Value::SimpleString(pong)) => pong == "PONG",
            (Self::Publish(_), Value::Int(_)) => true,
            _ => false,
        };
        if fits {
            Ok(Answer {
                values: vec![value],
                replicas: None,
            })
        } else {
            Err(Failure::out_of_step())
        }
    }
}

async fn run(
    connection: &mut impl ConnectionLike,
    script: Cmd,
    replicas: Option<ReplicaWait>,
) -> Result<(Value, Option<i64>), Failure> {
    match replicas {
        None => Ok((script.query_async(connection).await?, None)),
        Some(wait) => Box::pin(run_and_wait(connection, script, wait)).await,
    }
}

async fn run_and_wait(
    connection: &mut impl ConnectionLike,
    script: Cmd,
    wait: ReplicaWait,
) -> Result<(Value, Option<i64>), Failure> {
    let mut pipeline = redis::pipe();
    let timeout = u64::try_from(wait.timeout.as_millis()).unwrap_or(u64::MAX);
    pipeline
        .add_command(script)
        .cmd("WAIT")
        .arg(wait.count)
        .arg(timeout)
        .ignore_errors();
    let answers: Vec<RedisResult<Value>> = pipeline.query_async(connection).await?;
    let mut answers = answers.into_iter();
    let (Some(value), Some(replicas)) = (answers.next(), answers.next()) else {
        return Err(Failure::out_of_step());
    };
    let value = value?;
    match replicas? {
        Value::Int(replicas) => Ok((value, Some(replicas))),
        _ => Err(Failure::out_of_step()),
    }
}
