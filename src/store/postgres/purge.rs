use std::sync::Arc;
use std::time::Duration;

use sqlx::Row as _;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::error::Failure;
use super::pool::BoundedPool;
use super::server_time::millis;
use super::statement::Argument;
use crate::store::remote::pauses::jittered;

/// The most rows of a table that one transaction deletes.
const BATCH: i64 = 500;

/// Starts a task that deletes rows that have expired. Any number of instances may do so: none waits
/// for another, or makes a writer wait for more than one batch. Must be called inside a runtime.
pub(super) fn start(
    pool: Arc<BoundedPool>,
    every: Duration,
    keep: Duration,
) -> AbortOnDropHandle<()> {
    let task = async move {
        loop {
            // Instances that start together do not purge together.
            sleep(jittered(every)).await;
            if let Err(failure) = purge(&pool, keep).await {
                tracing::debug!(%failure, "expired rows were not deleted: trying again later");
            }
        }
    };
    AbortOnDropHandle::new(tokio::spawn(task))
}

async fn purge(pool: &BoundedPool, keep: Duration) -> Result<(), Failure> {
    loop {
        let arguments = vec![
            Argument::Number(Some(millis(keep))),
            Argument::Number(Some(BATCH)),
        ];
        let row = pool.call("purge_1", arguments).await?;
        let deleted: i64 = row.try_get("o_most_deleted")?;
        if deleted < BATCH {
            return Ok(());
        }
    }
}
