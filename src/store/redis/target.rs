use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

/// The reason why a Redis URL is invalid. It contains no part of the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedisUrlError {
    /// The scheme is unknown.
    #[error(
        "the scheme must be redis://, rediss://, redis-cluster://, rediss-cluster://, redis-sentinel://, \
         rediss-sentinel:// or redis+unix://"
    )]
    Scheme,
    /// There is no host, or one of several is empty.
    #[error("a host is missing")]
    NoHost,
    /// A host contains an invalid character, or an IPv6 address is not in brackets.
    #[error("a host contains an invalid character, or an IPv6 address is not in brackets")]
    Host,
    /// A port is not a number from 1 to 65535.
    #[error("a port is not a number from 1 to 65535")]
    Port,
    /// There are several hosts, but the URL is not for Cluster or Sentinel.
    #[error("several hosts are only allowed with redis-cluster:// and redis-sentinel://")]
    SeveralHosts,
    /// The user and the password are not percent-encoded UTF-8, or there is a user without a
    /// password.
    #[error("the credentials must be user:password@ or :password@, percent-encoded")]
    Credentials,
    /// The database is not a number.
    #[error("the database is not a number from 0 to 2147483647")]
    Database,
    /// Redis Cluster supports only database 0.
    #[error("Redis Cluster supports only database 0")]
    ClusterDatabase,
    /// A Sentinel URL does not name a service.
    #[error(
        "the path must be /SERVICE or /SERVICE/DATABASE, with the name of the service that Sentinel monitors"
    )]
    NoService,
    /// The URL of a Unix socket does not have an absolute path, or has a host.
    #[error(
        "a Unix socket needs an absolute path and no host, as in redis+unix:///run/redis.sock?db=0"
    )]
    SocketPath,
    /// The URL has a query or a fragment that is not supported.
    #[error("the query or the fragment is not supported")]
    Trailer,
}

/// The address of a server or cluster, the credentials and the database.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) place: Place,
    pub(super) tls: bool,
    pub(super) credentials: Option<Credentials>,
    pub(super) database: i64,
}

/// A user and its password. `None` is the default user.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) user: Option<String>,
    pub(super) password: Zeroizing<String>,
}

#[derive(Clone)]
pub(super) enum Place {
    Server(Address),
    Cluster(Vec<Address>),
    Sentinels {
        sentinels: Vec<Address>,
        service: String,
    },
}

/// The address of one server.
#[derive(Clone)]
pub(super) enum Address {
    Tcp { host: String, port: u16 },
    Socket(PathBuf),
}

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, RedisUrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(RedisUrlError::Scheme)?;
        let (rest, mut query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        if rest.contains('#') || query.is_some_and(|query| query.contains('#')) {
            return Err(RedisUrlError::Trailer);
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(Credentials::parse(credentials)?), hosts),
            None => (None, authority),
        };
        let path = path.strip_prefix('/').unwrap_or_default();
        let tls = scheme.starts_with("rediss");
        let (place, database) = match scheme {
            "redis+unix" | "unix" => {
                let path = decoded(path)
                    .filter(|path| hosts.is_empty() && !path.is_empty())
                    .ok_or(RedisUrlError::SocketPath)?;
                let place = Place::Server(Address::Socket(PathBuf::from(format!("/{path}"))));
                let database = query.take().map_or(Ok(""), |query| {
                    query.strip_prefix("db=").ok_or(RedisUrlError::Trailer)
                })?;
                (place, number(database)?)
            }
            "redis" | "rediss" => {
                let mut hosts = Address::parse_all(hosts, PORT)?.into_iter();
                let (Some(host), None) = (hosts.next(), hosts.next()) else {
                    return Err(RedisUrlError::SeveralHosts);
                };
                (Place::Server(host), number(path)?)
            }
            "redis-cluster" | "rediss-cluster" => {
                let hosts = Address::parse_all(hosts, PORT)?;
                if number(path)? != 0 {
                    return Err(RedisUrlError::ClusterDatabase);
                }
                (Place::Cluster(hosts), 0)
            }
            "redis-sentinel" | "rediss-sentinel" => {
                let sentinels = Address::parse_all(hosts, SENTINEL_PORT)?;
                let (service, database) = path.split_once('/').unwrap_or((path, ""));
                let service = decoded(service)
                    .filter(|service| !service.is_empty())
                    .ok_or(RedisUrlError::NoService)?;
                (Place::Sentinels { sentinels, service }, number(database)?)
            }
            _ => return Err(RedisUrlError::Scheme),
        };
        if query.is_some() {
            return Err(RedisUrlError::Trailer);
        }
        Ok(Self {
            place,
            tls,
            credentials,
            database,
        })
    }
}

impl fmt::Debug for Target {
    /// Writes a URL without the user and the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.tls { "s" } else { "" };
        let database = self.database;
        let hosts = |hosts: &[Address]| {
            let hosts: Vec<_> = hosts.iter().map(Address::to_string).collect();
            hosts.join(",")
        };
        match &self.place {
            Place::Server(socket @ Address::Socket(_)) => {
                write!(f, "redis+unix://{socket}?db={database}")
            }
            Place::Server(host) => write!(f, "redis{s}://{host}/{database}"),
            Place::Cluster(nodes) => write!(f, "redis{s}-cluster://{}", hosts(nodes)),
            Place::Sentinels { sentinels, service } => {
                let sentinels = hosts(sentinels);
                write!(f, "redis{s}-sentinel://{sentinels}/{service}/{database}")
            }
        }
    }
}

impl Credentials {
    /// An empty `user` is the default user.
    pub(super) fn new(user: String, password: String) -> Self {
        Self {
            user: Some(user).filter(|user| !user.is_empty()),
            password: Zeroizing::new(password),
        }
    }

    fn parse(text: &str) -> Result<Self, RedisUrlError> {
        let (user, password) = text.split_once(':').ok_or(RedisUrlError::Credentials)?;
        let (user, password) = decoded(user)
            .zip(decoded(password))
            .ok_or(RedisUrlError::Credentials)?;
        if password.is_empty() {
            return Err(RedisUrlError::Credentials);
        }
        Ok(Self::new(user, password))
    }
}

impl Address {
    fn parse_all(text: &str, default_port: u16) -> Result<Vec<Self>, RedisUrlError> {
        text.split(',')
            .map(|host| Self::parse(host, default_port))
            .collect()
    }

    fn parse(text: &str, default_port: u16) -> Result<Self, RedisUrlError> {
        let (host, port) = if let Some(address) = text.strip_prefix('[') {
            let (address, port) = address.split_once(']').ok_or(RedisUrlError::Host)?;
            address
                .parse::<std::net::Ipv6Addr>()
                .map_err(|_| RedisUrlError::Host)?;
            (address, port)
        } else {
            text.split_at(text.find(':').unwrap_or(text.len()))
        };
        if host.is_empty() {
            return Err(RedisUrlError::NoHost);
        }
        if !host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte))
        {
            return Err(RedisUrlError::Host);
        }
        let port = match port.strip_prefix(':') {
            Some(port) => port
                .parse::<NonZeroU16>()
                .map_err(|_| RedisUrlError::Port)?
                .get(),
            None if port.is_empty() => default_port,
            None => return Err(RedisUrlError::Port),
        };
        Ok(Self::Tcp {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

fn number(database: &str) -> Result<i64, RedisUrlError> {
    if database.is_empty() {
        return Ok(0);
    }
    let digits = database.bytes().all(|byte| byte.is_ascii_digit());
    let number = database
        .parse::<i32>()
        .ok()
        .filter(|_| digits)
        .ok_or(RedisUrlError::Database)?;
    Ok(number.into())
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text)
        .decode_utf8()
        .ok()
        .map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_every_kind_of_url() {
        let rows = [
            ("redis://localhost", "redis://localhost:6379/0"),
            ("redis://localhost/", "redis://localhost:6379/0"),
            ("redis://u:p@10.0.0.1:7000/12", "redis://10.0.0.1:7000/12"),
            ("rediss://[::1]:7000", "rediss://[::1]:7000/0"),
            ("redis://[fe80::1]", "redis://[fe80::1]:6379/0"),
            (
                "redis+unix:///run/redis.sock",
                "redis+unix:///run/redis.sock?db=0",
            ),
            (
                "unix:///run/a%20b.sock?db=3",
                "redis+unix:///run/a b.sock?db=3",
            ),
            (
                "redis-cluster://a,b:7001/0",
                "redis-cluster://a:6379,b:7001",
            ),
            ("rediss-cluster://:p@a", "rediss-cluster://a:6379"),
            (
                "redis-sentinel://a,b:7001/main",
                "redis-sentinel://a:26379,b:7001/main/0",
            ),
            (
                "rediss-sentinel://u:p@a/main/4",
                "rediss-sentinel://a:26379/main/4",
            ),
        ];
        for (url, read) in rows {
            assert_eq!(format!("{:?}", Target::parse(url).unwrap()), read, "{url}");
        }
    }

    #[test]
    fn credentials_are_percent_decoded() {
        let rows = [
            ("redis://:p%40ss%2F@h", None, "p@ss/"),
            ("redis://us%3Aer:p:q@h", Some("us:er"), "p:q"),
            ("redis-cluster://u:p@q@a,b", Some("u"), "p@q"),
        ];
        for (url, user, password) in rows {
            let credentials = Target::parse(url).unwrap().credentials.unwrap();
            assert_eq!(
                (credentials.user.as_deref(), credentials.password.as_str()),
                (user, password),
                "{url}"
            );
        }
        assert!(Target::parse("redis://h").unwrap().credentials.is_none());
    }

    #[test]
    fn rejects_invalid_urls() {
        use RedisUrlError::*;
        let rows = [
            ("", Scheme),
            ("localhost:6379", Scheme),
            ("http://localhost", Scheme),
            ("redis-cluster:a", Scheme),
            ("redis://", NoHost),
            ("redis:///0", NoHost),
            ("redis://:6379", NoHost),
            ("redis-cluster://a,,b", NoHost),
            ("redis://under the bridge", Host),
            ("redis://[::1", Host),
            ("redis://[localhost]", Host),
            ("redis://h:", Port),
            ("redis://h:0", Port),
            ("redis://h:65536", Port),
            ("redis://::1", NoHost),
            ("redis://fe80::1", Port),
            ("redis://[::1]7000", Port),
            ("redis://a,b", SeveralHosts),
            ("redis://user@h", Credentials),
            ("redis://user:@h", Credentials),
            ("redis://:%ff@h", Credentials),
            ("redis://h/one", Database),
            ("redis://h/-1", Database),
            ("redis://h/+1", Database),
            ("redis://h/0/1", Database),
            ("redis://h/4294967296", Database),
            ("redis-cluster://a,b/1", ClusterDatabase),
            ("redis-sentinel://a,b", NoService),
            ("redis-sentinel://a,b/", NoService),
            ("redis-sentinel://a,b//1", NoService),
            ("redis-sentinel://a/main/x", Database),
            ("redis+unix://h/run/redis.sock", SocketPath),
            ("redis+unix://", SocketPath),
            ("redis+unix:///", SocketPath),
            ("redis+unix:///s?user=u", Trailer),
            ("redis://h?protocol=3", Trailer),
            ("rediss://h/#insecure", Trailer),
        ];
        for (url, error) in rows {
            assert_eq!(Target::parse(url).unwrap_err(), error, "{url:?}");
        }
    }
}
