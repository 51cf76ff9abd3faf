use std::sync::Arc;
use std::time::Duration;

use sqlx::Row as _;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::error::Failure;
use super::link::Link;
use super::schema::Schema;
use super::server_time::millis;
use super::statement::{Argument, Statement};
use crate::store::pauses::jittered;

/// The most rows of a table that one transaction deletes.
const BATCH: i64 = 500;

/// Starts a task that deletes rows that have expired. Any number of instances may do so: none waits
/// for another, or makes a writer wait for more than one batch. Must be called inside a runtime.
pub(super) fn start(
    link: Arc<Link>,
    schema: &Schema,
    every: Duration,
    keep: Duration,
) -> AbortOnDropHandle<()> {
    let statement = Statement::new(&schema.quoted(), "purge_1", 3);
    let task = async move {
        loop {
            // Instances that start together do not purge together.
            sleep(jittered(every)).await;
            if let Err(failure) = purge(&link, &statement, keep).await {
                tracing::debug!(%failure, "expired rows were not deleted: trying again later");
            }
        }
    };
    AbortOnDropHandle::new(tokio::spawn(task))
}

async fn purge(link: &Link, statement: &Statement, keep: Duration) -> Result<(), Failure> {
    loop {
        let arguments = vec![
            Argument::Number(Some(millis(keep))),
            Argument::Number(Some(BATCH)),
        ];
        let row = link.call(statement, arguments).await?;
        let deleted: i64 = row.try_get("o_most_deleted")?;
        if deleted < BATCH {
            return Ok(());
        }
    }
}
