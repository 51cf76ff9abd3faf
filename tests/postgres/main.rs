//! `PostgresStore`, over PostgreSQL servers that the tests start.

mod announcements;
mod failover;
mod instances;
mod late;
mod outages;
mod pool;
mod pooler;
mod schema;
mod store;
mod tls;
