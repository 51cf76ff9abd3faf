use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{Cmd, RedisResult, Value};
use std::time::Duration;

use super::error::{Failure, Kind};
use super::scripts::Script;

/// One connection to Redis, or one to each node of a cluster. A clone is another handle on it.
#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// What can be sent over a connection. All of it has the same effect once and twice.
pub(super) enum Call<'a> {
    Plain(Cmd),
    /// What any node of a cluster can do.
    Anywhere(Cmd),
    Run {
        script: &'static Script,
        keys: &'a [&'a [u8]],
        args: &'a [&'a [u8]],
        /// For how many replicas to wait after it, and for how long.
        replicas: Option<(u32, Duration)>,
    },
}

/// What comes back.
pub(super) struct Answer {
    pub(super) value: Value,
    /// How many replicas are known to have it, if they were waited for.
    pub(super) replicas: Option<i64>,
}

impl Connection {
    pub(super) async fn send(&mut self, call: &Call<'_>) -> Result<Answer, Failure> {
        match self {
            Self::Server(connection) => send(connection, call).await,
            // In a box, so that nobody else carries the room for it.
            Self::Cluster(connection) => Box::pin(send_to_cluster(connection, call)).await,
        }
    }

    /// Makes the servers know the scripts. Where that fails, for want of rights or because a node is away, they are
    /// sent when they are needed.
    pub(super) async fn load(&self, scripts: &[&Script]) -> Result<(), Failure> {
        for script in scripts {
            let loaded = self.query(&script.load()).await.map_err(Failure::from);
            match loaded {
                Ok(_) => {}
                Err(failure) if failure.kind() == Kind::Permission || matches!(self, Self::Cluster(_)) => {
                    tracing::debug!(%failure, "Redis has not loaded a script");
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    pub(super) async fn query(&self, cmd: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Server(connection) => cmd.query_async(&mut connection.clone()).await,
            Self::Cluster(connection) => cmd.query_async(&mut connection.clone()).await,
        }
    }
}

async fn send_to_cluster(connection: &mut ClusterConnection, call: &Call<'_>) -> Result<Answer, Failure> {
    match call {
        Call::Anywhere(cmd) => {
            let anywhere = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
            let value = connection.route_command(cmd.clone(), anywhere).await?;
            Ok(Answer { value, replicas: None })
        }
        call => send(connection, call).await,
    }
}

async fn send(connection: &mut impl ConnectionLike, call: &Call<'_>) -> Result<Answer, Failure> {
    match *call {
        Call::Plain(ref cmd) | Call::Anywhere(ref cmd) => {
            Ok(Answer { value: cmd.query_async(connection).await?, replicas: None })
        }
        Call::Run { script, keys, args, replicas } => {
            match run(connection, script.by_hash(keys, args), replicas).await {
                Err(failure) if failure.kind() == Kind::NoScript => {
                    // In a box, for it is rare.
                    Box::pin(run(connection, script.by_code(keys, args), replicas)).await
                }
                answer => answer,
            }
        }
    }
}

async fn run(
    connection: &mut impl ConnectionLike,
    script: Cmd,
    replicas: Option<(u32, Duration)>,
) -> Result<Answer, Failure> {
    match replicas {
        None => Ok(Answer { value: script.query_async(connection).await?, replicas: None }),
        Some((count, patience)) => Box::pin(run_and_wait(connection, script, count, patience)).await,
    }
}

async fn run_and_wait(
    connection: &mut impl ConnectionLike,
    script: Cmd,
    count: u32,
    patience: Duration,
) -> Result<Answer, Failure> {
    let mut pipeline = redis::pipe();
    let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    pipeline.add_command(script).cmd("WAIT").arg(count).arg(patience).ignore_errors();
    let answers: Vec<RedisResult<Value>> = pipeline.query_async(connection).await?;
    let mut answers = answers.into_iter();
    let (Some(value), Some(replicas)) = (answers.next(), answers.next()) else {
        return Err(Failure::new(Kind::Gone, "Redis has left a command without an answer"));
    };
    let value = value?;
    match replicas? {
        Value::Int(replicas) => Ok(Answer { value, replicas: Some(replicas) }),
        _ => Err(Failure::new(Kind::Other, "Redis has answered a WAIT with something else than a number")),
    }
}
