//! `PostgresStore`, over PostgreSQL servers that the tests start.

mod announcements;
mod outages;
mod pooler;
mod schema;
mod store;
