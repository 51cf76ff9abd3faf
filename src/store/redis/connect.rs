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
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{Connection, Server};
use super::error::{Failure, Kind};
use super::scripts::{CLAIM, READ, SWAP, Script};
use super::stream::Endpoint;
use super::target::{Credentials, Host, Place, Target};
use super::tls::Tls;

/// How many commands may wait to be written before a caller has to wait with its own.
const QUEUE: usize = 1024;

/// What hears what a server says unasked.
type Ear = Arc<dyn AsyncPushSender>;

/// Opens connections to one target.
pub(super) struct Connector {
    pub(super) target: Target,
    pub(super) sentinel_credentials: Option<Credentials>,
    pub(super) tls: Option<Tls>,
    /// How long a command may take.
    pub(super) limit: Duration,
    /// Which of the sentinels is asked first.
    pub(super) first_sentinel: AtomicUsize,
}

impl Connector {
    /// Opens a connection that is ready for use, within `limit`.
    pub(super) async fn connect(&self, limit: Duration) -> Result<Connection, Failure> {
        let connection = timeout(limit, async {
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
                // A node that hangs is not waited for: it is sent them when they are needed.
                Connection::Cluster(_) => {
                    let loaded = timeout(self.share(), connection.load(&scripts())).await;
                    loaded.unwrap_or(Ok(()))?;
                }
            }
            Ok(connection)
        });
        connection.await.unwrap_or_else(|_| Err(Failure::slow()))
    }

    /// A connection to the one server that decides what kind of thing this is: the server itself,
    /// or the first node of the cluster that answers.
    pub(super) async fn scout(&self, limit: Duration) -> Result<Server, Failure> {
        self.reach(limit, None).await
    }

    /// A connection to one server, any node of a cluster, that hears what it says unasked.
    pub(super) async fn listener(&self, limit: Duration, ear: Ear) -> Result<Server, Failure> {
        self.reach(limit, Some(&ear)).await
    }

    async fn reach(&self, limit: Duration, ear: Option<&Ear>) -> Result<Server, Failure> {
        let reaching = async {
            match &self.target.place {
                Place::Server(host) => self.dial(Endpoint::Host(host), ear).await,
                Place::Socket(path) => self.dial(Endpoint::Socket(path), ear).await,
                Place::Sentinels { sentinels, service } => {
                    self.master(sentinels, service, limit, ear).await
                }
                Place::Cluster(nodes) => {
                    let mut found = Err(Failure::slow());
                    let share = limit / u32::try_from(nodes.len()).unwrap_or(u32::MAX);
                    for node in nodes {
                        let dialled = timeout(share, async {
                            let connection = self.dial(Endpoint::Host(node), ear).await?;
                            answers(&connection).await?;
                            Ok(connection)
                        });
                        let dialled = dialled.await;
                        found = dialled.unwrap_or_else(|_| Err(Failure::slow()));
                        if found.is_ok() {
                            break;
                        }
                    }
                    found
                }
            }
        };
        timeout(limit, reaching)
            .await
            .unwrap_or_else(|_| Err(Failure::slow()))
    }

    async fn dial(&self, endpoint: Endpoint<'_>, ear: Option<&Ear>) -> Result<Server, Failure> {
        self.dial_as(
            endpoint,
            self.target.credentials.as_ref(),
            self.target.database,
            ear,
        )
        .await
    }

    async fn dial_as(
        &self,
        endpoint: Endpoint<'_>,
        credentials: Option<&Credentials>,
        database: i64,
        ear: Option<&Ear>,
    ) -> Result<Server, Failure> {
        let stream = endpoint
            .open(self.tls.as_ref())
            .await
            .map_err(RedisError::from)?;
        let mut settings = settings(credentials, database);
        // The caller measures the time.
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        if let Some(ear) = ear {
            // In RESP2 a connection with a subscription accepts no other command.
            settings = settings.set_protocol(ProtocolVersion::RESP3);
            config = config.set_push_sender(Arc::clone(ear));
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

    /// Whether this is a cluster.
    pub(super) fn joins(&self) -> bool {
        matches!(self.target.place, Place::Cluster(_))
    }

    /// How long one node of a cluster may keep a connection to it waiting: for one that hangs it is
    /// waited twice while joining, first among the nodes of the URL and then among all, and once
    /// whenever the cluster is asked where its slots are, by all calls.
    pub(super) fn share(&self) -> Duration {
        (self.limit / 4).max(Duration::from_millis(250))
    }

    async fn join(&self, nodes: &[Host], limit: Duration) -> Result<Connection, Failure> {
        match self.join_within(nodes, self.share()).await {
            // Perhaps none was quick enough.
            Err(failure) if matches!(failure.kind(), Kind::Gone | Kind::Slow) => {
                self.join_within(nodes, limit / 4).await
            }
            joined => joined,
        }
    }

    /// Connects to the nodes, each of which has this time to take the connection and answer.
    async fn join_within(&self, nodes: &[Host], share: Duration) -> Result<Connection, Failure> {
        let nodes = nodes.iter().map(|node| {
            // With it, every connection begins with a question. Without it, a node that hangs has
            // taken the connection at once, and has as long for its first answer as a call may
            // take.
            let settings =
                settings(self.target.credentials.as_ref(), 0).set_protocol(ProtocolVersion::RESP3);
            info(self.address(node), settings)
        });
        let nodes = nodes.collect::<RedisResult<Vec<_>>>()?;
        let mut builder = ClusterClientBuilder::new(nodes)
            .tcp_settings(TcpSettings::default().set_nodelay(true))
            .connection_timeout(share)
            .response_timeout(self.limit)
            // A redirection or two, and one connection that was lost: the rest is for our caller.
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

    /// Asks the sentinels, one after the other, who is master, and makes sure that it thinks so
    /// too.
    async fn master(
        &self,
        sentinels: &[Host],
        service: &str,
        limit: Duration,
        ear: Option<&Ear>,
    ) -> Result<Server, Failure> {
        let deadline = Instant::now() + limit;
        let first = self.first_sentinel.load(Ordering::Relaxed);
        let mut found = Err(Failure::slow());
        for number in 0..sentinels.len() {
            let at = first.wrapping_add(number) % sentinels.len();
            let Some(sentinel) = sentinels.get(at) else {
                continue;
            };
            let asked = timeout(limit / 2, self.ask(sentinel, service)).await;
            let master = match asked.unwrap_or_else(|_| Err(Failure::slow())) {
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
            let dialled = timeout_at(deadline, async {
                let connection = self.dial(Endpoint::Host(&master), ear).await?;
                is_master(&connection).await?;
                Ok(connection)
            });
            found = dialled.await.unwrap_or_else(|_| Err(Failure::slow()));
            if found.is_ok() {
                break;
            }
        }
        found
    }

    async fn ask(&self, sentinel: &Host, service: &str) -> Result<Host, Failure> {
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
            .ok_or_else(|| Failure::new(Kind::Other, "Sentinel knows no service of this name"))?;
        Ok(Host { name, port })
    }
}

/// A node that hangs takes connections and says nothing. One that refuses to answer is there.
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
            "the server that Sentinel names is no master",
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
    // The name of the library would need one more right.
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
