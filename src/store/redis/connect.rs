use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, FromRedisValue as _, ProtocolVersion, RedisConnectionInfo, RedisError,
    Value, cmd,
};
use tokio::time::{Instant, timeout};

use super::connection::{Connection, Server};
use super::error::{Failure, Kind, until, within};
use super::stream::Bounded;
use super::target::{Address, Credentials, Place, Target};
use super::tls::Tls;

/// The number of commands that may wait to be written before a caller has to wait.
const QUEUE: usize = 1024;

/// A receiver of the push messages of a server.
type PushSender = Arc<dyn AsyncPushSender>;

/// Opens connections to one target.
pub(super) struct Connector {
    pub(super) target: Target,
    pub(super) sentinel_credentials: Option<Credentials>,
    pub(super) tls: Option<Tls>,
    /// The time limit of a call of the store.
    pub(super) limit: Duration,
    /// The index of the sentinel that is asked first.
    pub(super) first_sentinel: AtomicUsize,
}

impl Connector {
    /// Opens a connection that is ready for use, within `limit`.
    pub(super) async fn connect(&self, limit: Duration) -> Result<Connection, Failure> {
        let connecting = async {
            if let Place::Cluster(nodes) = &self.target.place {
                let cluster = self.join(nodes, limit).await?;
                // The store does not wait for a node that hangs or is down.
                let _ = timeout(self.share(), cluster.load()).await;
                return Ok(cluster);
            }
            let server = Connection::Server(self.reach(limit, None).await?);
            server.load().await?;
            Ok::<_, Failure>(server)
        };
        within(limit, connecting).await
    }

    /// Connects to one server (the first node of a cluster that answers), and passes its push
    /// messages to `push`.
    pub(super) async fn reach(
        &self,
        limit: Duration,
        push: Option<&PushSender>,
    ) -> Result<Server, Failure> {
        let reaching = async {
            match &self.target.place {
                Place::Server(address) => self.dial(address, push).await,
                Place::Sentinels { sentinels, service } => {
                    self.master(sentinels, service, limit, push).await
                }
                Place::Cluster(nodes) => {
                    let mut found = Err(Failure::slow());
                    let share = limit / u32::try_from(nodes.len()).unwrap_or(u32::MAX);
                    for node in nodes {
                        let dialling = async {
                            let connection = self.dial(node, push).await?;
                            answers(&connection).await?;
                            Ok::<_, Failure>(connection)
                        };
                        found = within(share, dialling).await;
                        if found.is_ok() {
                            break;
                        }
                    }
                    found
                }
            }
        };
        within(limit, reaching).await
    }

    async fn dial(&self, address: &Address, push: Option<&PushSender>) -> Result<Server, Failure> {
        let target = &self.target;
        self.dial_as(address, target.credentials.as_ref(), target.database, push)
            .await
    }

    async fn dial_as(
        &self,
        address: &Address,
        credentials: Option<&Credentials>,
        database: i64,
        push: Option<&PushSender>,
    ) -> Result<Server, Failure> {
        let stream = Bounded::open(address, self.tls.as_ref())
            .await
            .map_err(RedisError::from)?;
        // Sending the name of the library (`CLIENT SETINFO`) would need one more permission.
        let mut settings = RedisConnectionInfo::default()
            .set_db(database)
            .set_skip_set_lib_name();
        if let Some(Credentials { user, password }) = credentials {
            settings = settings.set_password(password.as_str());
            if let Some(user) = user {
                settings = settings.set_username(user);
            }
        }
        // The caller applies the time limits.
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        if let Some(push) = push {
            // In RESP2 a connection with a subscription accepts no other command.
            settings = settings.set_protocol(ProtocolVersion::RESP3);
            config = config.set_push_sender(Arc::clone(push));
        }
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&settings, stream, config).await?;
        Ok(Server::new(connection, driver))
    }

    /// Returns the deadline of a call of the store that begins now.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.limit
    }

    /// Returns whether the target is a cluster.
    pub(super) fn joins(&self) -> bool {
        matches!(self.target.place, Place::Cluster(_))
    }

    /// Returns how long one node of a cluster may delay a connection attempt. A node that hangs
    /// causes this delay twice while connecting (first among the nodes of the URL, then among all
    /// nodes), and once for all calls whenever the client asks the cluster for its slots.
    pub(super) fn share(&self) -> Duration {
        (self.limit / 4).max(Duration::from_millis(250))
    }

    async fn join(&self, nodes: &[Address], limit: Duration) -> Result<Connection, Failure> {
        match self.join_within(nodes, self.share()).await {
            // Perhaps no node was fast enough: try again with more time.
            Err(failure) if matches!(failure.kind(), Kind::Gone | Kind::Slow) => {
                self.join_within(nodes, limit / 4).await
            }
            joined => joined,
        }
    }

    /// Connects to the nodes. Each has the time `share` to accept the connection and answer.
    async fn join_within(&self, nodes: &[Address], share: Duration) -> Result<Connection, Failure> {
        // The URL of a cluster contains no socket.
        let nodes = nodes.iter().filter_map(|node| match node {
            Address::Tcp { host, port } => Some((host.clone(), *port)),
            Address::Socket(_) => None,
        });
        let mut builder = ClusterClientBuilder::new(nodes)
            // Every connection then begins with a request (`HELLO`), so a node that hangs fails
            // within `share`. With RESP2 a node that hangs would count as connected, and the first
            // call to it would take a whole time-out.
            .use_protocol(ProtocolVersion::RESP3)
            .tcp_settings(TcpSettings::default().set_nodelay(true))
            .connection_timeout(share)
            .response_timeout(self.limit)
            // Enough for one or two redirections and one lost connection. Our caller handles the
            // rest.
            .retries(3)
            .min_retry_wait(10)
            .max_retry_wait(100);
        if let Some(Credentials { user, password }) = &self.target.credentials {
            builder = builder.password(password.as_str());
            if let Some(user) = user {
                builder = builder.username(user);
            }
        }
        if let Some(tls) = &self.tls {
            builder = tls.apply(builder);
        }
        Ok(Connection::Cluster(
            builder.build()?.get_async_connection().await?,
        ))
    }

    /// Asks the sentinels, one after the other, for the master, and checks that this server
    /// considers itself a master.
    async fn master(
        &self,
        sentinels: &[Address],
        service: &str,
        limit: Duration,
        push: Option<&PushSender>,
    ) -> Result<Server, Failure> {
        let deadline = Instant::now() + limit;
        let first = self.first_sentinel.load(Ordering::Relaxed);
        let mut found = Err(Failure::slow());
        let in_turn = sentinels.iter().enumerate().cycle().skip(first);
        for (at, sentinel) in in_turn.take(sentinels.len()) {
            let asked = self.master_of(sentinel, service);
            let master = match within(limit / 2, asked).await {
                Ok(master) => {
                    self.first_sentinel.store(at, Ordering::Relaxed);
                    master
                }
                Err(failure) => {
                    self.first_sentinel.store(at + 1, Ordering::Relaxed);
                    found = Err(failure);
                    continue;
                }
            };
            let dialling = async {
                let connection = self.dial(&master, push).await?;
                is_master(&connection).await?;
                Ok::<_, Failure>(connection)
            };
            found = until(deadline, dialling).await;
            if found.is_ok() {
                break;
            }
        }
        found
    }

    async fn master_of(&self, sentinel: &Address, service: &str) -> Result<Address, Failure> {
        let credentials = self.sentinel_credentials.as_ref();
        let connection = self.dial_as(sentinel, credentials, 0, None).await?;
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
        let answer = connection.query(&question).await?;
        let answer = Option::<(String, u16)>::from_redis_value(answer)
            .map_err(|_| Failure::out_of_step())?;
        let (host, port) = answer
            .ok_or_else(|| Failure::new(Kind::Other, "Sentinel does not know the service name"))?;
        Ok(Address::Tcp { host, port })
    }
}

/// Sends a `PING`, because a node that hangs accepts connections and never replies. A node that
/// replies with an error is alive.
async fn answers(connection: &Server) -> Result<(), Failure> {
    let answer = connection.query(&cmd("PING")).await.map_err(Failure::from);
    answer.map(drop).or_else(|failure| match failure.kind() {
        Kind::Gone | Kind::Slow => Err(failure),
        _ => Ok(()),
    })
}

async fn is_master(connection: &Server) -> Result<(), Failure> {
    match connection.query(&cmd("ROLE")).await? {
        Value::Array(parts) if matches!(parts.first(), Some(Value::BulkString(role)) if role == b"master") => {
            Ok(())
        }
        _ => Err(Failure::new(
            Kind::Standby,
            "the server that Sentinel reports as the master is not a master",
        )),
    }
}
