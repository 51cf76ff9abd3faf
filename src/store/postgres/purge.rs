use std::sync::Arc;
use std::time::Duration;

use sqlx::Row as _;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::error::Failure;
use super::link::Link;
use super::schema::Schema;
use super::server_time::millis;
use super::statement::{Argument, Statement};
use crate::store::pauses::jittered;

/// The most rows of a table that one transaction deletes.
const BATCH: i64 = 500;

/// A task that deletes rows that have expired. Any number of instances may do so: none waits for
/// another, or makes a writer wait for more than one batch.
pub(super) struct Purge(AbortHandle);

impl Purge {
    /// Starts the task. Must be called inside a runtime.
    pub(super) fn start(link: Arc<Link>, schema: &Schema, every: Duration, keep: Duration) -> Self {
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
        Self(tokio::spawn(task).abort_handle())
    }
}

impl Drop for Purge {
    fn drop(&mut self) {
        self.0.abort();
    }
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
