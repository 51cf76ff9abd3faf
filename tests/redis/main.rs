//! `RedisStore`, over Redis servers that the tests start.

mod access_ends;
mod announcements;
mod cluster;
mod connect;
mod corruption;
mod deaths;
mod deployments;
mod end_grant;
mod failover;
mod faults;
mod fixtures;
mod hand_back;
mod hang_up;
mod instances;
mod memory;
mod operations;
mod out_of_step;
mod outages;
mod reconnect;
mod renewal;
mod repeats;
mod replicas;
mod secrets;
mod sentinel;
mod sessions;
mod store;
