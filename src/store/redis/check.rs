use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{Value, cmd};

use super::connection::{Connection, Server};
use super::error::{Failure, Kind, RedisConnectError};
use super::target::Place;
use crate::store::remote::printable::printable;

/// The first version with `SET … KEEPTTL` and ACLs.
const OLDEST: (u32, u32) = (6, 0);

/// Checks that a server is of the expected kind and not too old. Checks nothing if the server does
/// not reveal it.
pub(super) async fn check(server: &Server, place: &Place) -> Result<(), RedisConnectError> {
    let info = match server.query(&cmd("INFO")).await.map_err(Failure::from) {
        Ok(Value::BulkString(text)) => String::from_utf8_lossy(&text).into_owned(),
        Ok(_) => return Ok(()),
        Err(failure) if matches!(failure.kind(), Kind::Permission | Kind::Other) => {
            tracing::debug!(%failure, "INFO failed: the settings of Redis are not checked");
            return Ok(());
        }
        Err(failure) => return Err(failure.into()),
    };
    if let Some(version) = field(&info, "redis_version") {
        let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
        if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < OLDEST {
            return Err(RedisConnectError::TooOld {
                found: printable(version),
            });
        }
    }
    match (field(&info, "cluster_enabled"), place) {
        (Some("0"), Place::Cluster(_)) => Err(RedisConnectError::NotACluster),
        (Some("1"), Place::Server(_)) => Err(RedisConnectError::PartOfACluster),
        _ => Ok(()),
    }
}

/// Logs a warning about settings of each master that lose grants, and about fewer connected
/// replicas than the `replicas` that writes wait for.
pub(super) async fn warn(connection: &Connection, replicas: Option<u32>) {
    let info = cmd("INFO");
    let reply = match connection {
        Connection::Server(server) => server.query(&info).await,
        Connection::Cluster(nodes) => {
            let masters = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
            nodes.clone().route_command(info, masters).await
        }
    };
    let servers = match reply.map_err(Failure::from) {
        Ok(Value::BulkString(text)) => vec![(None, String::from_utf8_lossy(&text).into_owned())],
        Ok(Value::Map(nodes)) => nodes.into_iter().filter_map(of_a_node).collect(),
        Ok(_) => return,
        Err(failure) => {
            return tracing::debug!(%failure, "INFO failed: the settings of Redis are not checked");
        }
    };
    for (node, info) in servers {
        if let Some(policy) =
            field(&info, "maxmemory_policy").filter(|policy| *policy != "noeviction")
        {
            tracing::warn!(
                node,
                policy = printable(policy),
                "Redis evicts grants when its memory is full: set maxmemory-policy to noeviction"
            );
        }
        let connected =
            field(&info, "connected_slaves").and_then(|connected| connected.parse::<u32>().ok());
        if let (Some(connected), Some(wanted)) = (connected, replicas)
            && connected < wanted
        {
            tracing::warn!(
                node,
                connected,
                wanted,
                "fewer replicas are connected than wait_for_replicas needs: no refresh token is issued or accepted"
            );
        }
        if field(&info, "aof_enabled") == Some("0") {
            tracing::warn!(
                node,
                "Redis loses the grants of the last seconds or minutes when it stops: set appendonly to yes"
            );
        }
    }
}

fn of_a_node((node, info): (Value, Value)) -> Option<(Option<String>, String)> {
    let Value::BulkString(node) = node else {
        return None;
    };
    let info = match info {
        Value::BulkString(text) => String::from_utf8_lossy(&text).into_owned(),
        Value::VerbatimString { text, .. } => text,
        _ => return None,
    };
    Some((Some(printable(&String::from_utf8_lossy(&node))), info))
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}
