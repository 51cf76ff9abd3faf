//! `PostgresStore`, over PostgreSQL servers that the tests start.

mod announcements;
mod instances;
mod outages;
mod pool;
mod pooler;
mod schema;
mod store;
mod tls;
