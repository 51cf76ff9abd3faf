use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, FromRedisValue as _,
    IntoConnectionInfo as _, ProtocolVersion, RedisConnectionInfo, RedisError, RedisResult, Value,
    cmd,
};
use tokio::time::{Instant, timeout};

use super::connection::{Connection, Server};
use super::error::{Failure, Kind, until, within};
use super::scripts::{CLAIM, READ, SWAP, Script};
use super::stream::Endpoint;
use super::target::{Credentials, Host, Place, Target};
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
            let connection = match &self.target.place {
                Place::Server(host) => {
                    Connection::Server(self.dial(Endpoint::Host(host), None).await?)
                }
                Place::Socket(path) => {
                    Connection::Server(self.dial(Endpoint::Socket(path), None).await?)
                }
                Place::Cluster(nodes) => self.join(nodes, limit).await?,
                Place::Sentinels { sentinels, service } => {
                    Connection::Server(self.master(sentinels, service, limit, None).await?)
                }
            };
            match &connection {
                Connection::Server(_) => connection.load(&scripts()).await?,
                // The store does not wait for a node that hangs. That node gets the scripts when
                // they are first needed.
                Connection::Cluster(_) => {
                    let loaded = timeout(self.share(), connection.load(&scripts())).await;
                    loaded.unwrap_or(Ok(()))?;
                }
            }
            Ok::<_, Failure>(connection)
        };
        within(limit, connecting).await
    }

    /// Connects to one server to find out its kind: the server itself, or the first node of the
    /// cluster that answers.
    pub(super) async fn scout(&self, limit: Duration) -> Result<Server, Failure> {
        self.reach(limit, None).await
    }

    /// Connects to one server (any node of a cluster), and passes its push messages to `push`.
    pub(super) async fn listener(
        &self,
        limit: Duration,
        push: PushSender,
    ) -> Result<Server, Failure> {
        self.reach(limit, Some(&push)).await
    }

    async fn reach(&self, limit: Duration, push: Option<&PushSender>) -> Result<Server, Failure> {
        let reaching = async {
            match &self.target.place {
                Place::Server(host) => self.dial(Endpoint::Host(host), push).await,
                Place::Socket(path) => self.dial(Endpoint::Socket(path), push).await,
                Place::Sentinels { sentinels, service } => {
                    self.master(sentinels, service, limit, push).await
                }
                Place::Cluster(nodes) => {
                    let mut found = Err(Failure::slow());
                    let share = limit / u32::try_from(nodes.len()).unwrap_or(u32::MAX);
                    for node in nodes {
                        let dialling = async {
                            let connection = self.dial(Endpoint::Host(node), push).await?;
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

    async fn dial(
        &self,
        endpoint: Endpoint<'_>,
        push: Option<&PushSender>,
    ) -> Result<Server, Failure> {
        self.dial_as(
            endpoint,
            self.target.credentials.as_ref(),
            self.target.database,
            push,
        )
        .await
    }

    async fn dial_as(
        &self,
        endpoint: Endpoint<'_>,
        credentials: Option<&Credentials>,
        database: i64,
        push: Option<&PushSender>,
    ) -> Result<Server, Failure> {
        let stream = endpoint
            .open(self.tls.as_ref())
            .await
            .map_err(RedisError::from)?;
        let mut settings = settings(credentials, database);
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

    fn address(&self, host: &Host) -> ConnectionAddr {
        match &self.tls {
            Some(tls) => tls.address(host),
            None => ConnectionAddr::Tcp(host.name.clone(), host.port),
        }
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

    async fn join(&self, nodes: &[Host], limit: Duration) -> Result<Connection, Failure> {
        match self.join_within(nodes, self.share()).await {
            // Perhaps no node was fast enough: try again with more time.
            Err(failure) if matches!(failure.kind(), Kind::Gone | Kind::Slow) => {
                self.join_within(nodes, limit / 4).await
            }
            joined => joined,
        }
    }

    /// Connects to the nodes. Each has the time `share` to accept the connection and answer.
    async fn join_within(&self, nodes: &[Host], share: Duration) -> Result<Connection, Failure> {
        let nodes = nodes.iter().map(|node| {
            // With RESP3 every connection begins with a request (`HELLO`), so a node that hangs
            // fails within `share`. With RESP2 a node that hangs would count as connected, and the
            // first call to it would take a whole time-out.
            let settings =
                settings(self.target.credentials.as_ref(), 0).set_protocol(ProtocolVersion::RESP3);
            info(self.address(node), settings)
        });
        let nodes = nodes.collect::<RedisResult<Vec<_>>>()?;
        let mut builder = ClusterClientBuilder::new(nodes)
            .tcp_settings(TcpSettings::default().set_nodelay(true))
            .connection_timeout(share)
            .response_timeout(self.limit)
            // Enough for one or two redirections and one lost connection. Our caller handles the
            // rest.
            .retries(3)
            .min_retry_wait(10)
            .max_retry_wait(100);
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
        sentinels: &[Host],
        service: &str,
        limit: Duration,
        push: Option<&PushSender>,
    ) -> Result<Server, Failure> {
        let deadline = Instant::now() + limit;
        let first = self.first_sentinel.load(Ordering::Relaxed);
        let mut found = Err(Failure::slow());
        for number in 0..sentinels.len() {
            let at = first.wrapping_add(number) % sentinels.len();
            let Some(sentinel) = sentinels.get(at) else {
                continue;
            };
            let master = match within(limit / 2, self.master_of(sentinel, service)).await {
                Ok(master) => {
                    self.first_sentinel.store(at, Ordering::Relaxed);
                    master
                }
                Err(failure) => {
                    self.first_sentinel
                        .store(at.wrapping_add(1), Ordering::Relaxed);
                    found = Err(failure);
                    continue;
                }
            };
            let dialling = async {
                let connection = self.dial(Endpoint::Host(&master), push).await?;
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

    async fn master_of(&self, sentinel: &Host, service: &str) -> Result<Host, Failure> {
        let sentinel = Endpoint::Host(sentinel);
        let connection = self
            .dial_as(sentinel, self.sentinel_credentials.as_ref(), 0, None)
            .await?;
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
        let answer = connection.query(&question).await?;
        let answer = Option::<(String, u16)>::from_redis_value(answer)
            .map_err(|_| Failure::out_of_step())?;
        let (name, port) = answer
            .ok_or_else(|| Failure::new(Kind::Other, "Sentinel does not know the service name"))?;
        Ok(Host { name, port })
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

fn scripts() -> [&'static Script; 3] {
    [&CLAIM, &SWAP, &READ]
}

fn info(address: ConnectionAddr, settings: RedisConnectionInfo) -> RedisResult<ConnectionInfo> {
    let info = address
        .into_connection_info()?
        .set_tcp_settings(TcpSettings::default().set_nodelay(true));
    Ok(info.set_redis_settings(settings))
}

fn settings(credentials: Option<&Credentials>, database: i64) -> RedisConnectionInfo {
    // Sending the name of the library (`CLIENT SETINFO`) would need one more permission.
    let settings = RedisConnectionInfo::default()
        .set_db(database)
        .set_skip_set_lib_name();
    let Some(Credentials { user, password }) = credentials else {
        return settings;
    };
    let settings = settings.set_password(password.as_str());
    match user {
        Some(user) => settings.set_username(user),
        None => settings,
    }
}
