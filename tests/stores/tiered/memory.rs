//! The memory of the cache.

use super::*;

/// A store that has this value under every key.
struct Everywhere(Bytes);

impl Store for Everywhere {
    async fn get(&self, _: &Key) -> Result<Option<Entry>, StoreError> {
        Ok((!self.0.is_empty()).then(|| Entry::new(version(1), TAG, self.0.clone())))
    }

    async fn swap(
        &self,
        _: &Key,
        _: Option<Version>,
        _: Change,
        _: &[Sidecar],
    ) -> Result<Swap, StoreError> {
        Err(StoreError::unavailable("nothing can be written here"))
    }

    async fn sidecar(&self, _: &Key, _: &SidecarName) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }
}

/// Reads this many keys, and looks up each of them in the cache.
fn read(tier: &TieredStore<Everywhere>, keys: u64) {
    for number in 0..keys {
        let key = key(number);
        let read = std::pin::pin!(tier.get(&key));
        assert!(
            read.poll(&mut Context::from_waker(Waker::noop()))
                .is_ready(),
            "nothing here waits"
        );
        let _ = tier.peek(&key);
    }
}

#[test]
fn the_memory_of_the_cache_is_bounded() {
    for (name, len) in [("values", 330), ("ends", 0)] {
        const BYTES: u64 = 1024 * 1024;
        let tier = TieredStore::builder(Everywhere(vec![7; len].into()))
            .max_bytes(BYTES)
            .ttl(HOUR * 24)
            .build();
        for _ in 0..3 {
            read(&tier, 20_000);
            let CacheStats { bytes, entries, .. } = tier.cache_stats();
            assert!(
                bytes <= BYTES && entries > 0,
                "{name}: {bytes} bytes for {entries}"
            );
        }
        assert!(
            tier.cache_stats().entries >= 1000,
            "{name}: the cache is filled: {:?}",
            tier.cache_stats()
        );
    }
}

#[test]
fn a_value_larger_than_the_cache_is_not_cached() {
    let tier = TieredStore::builder(Everywhere(vec![7; 2 * 1024 * 1024].into()))
        .max_bytes(1024 * 1024)
        .build();
    read(&tier, 10);
    assert_eq!(
        (tier.cache_stats().bytes, tier.cache_stats().entries),
        (0, 0)
    );
}

#[test]
fn the_reported_size_matches_the_memory_used() {
    const KEYS: u64 = 100_000;
    // Caches of other tests in this process would disturb the count: what one of them drops may be
    // freed on the thread of another, a moment later.
    const ALONE: &str = "MEASURE_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "tiered::memory::the_reported_size_matches_the_memory_used";
        let alone = std::process::Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&alone.stdout);
        assert!(
            alone.status.success() && printed.contains("1 passed"),
            "{printed}{}",
            String::from_utf8_lossy(&alone.stderr)
        );
        return;
    }
    for (name, len) in [("values", 330), ("ends", 0)] {
        let everywhere = Everywhere(vec![7; len].into());
        let tier = TieredStore::builder(everywhere)
            .max_bytes(u64::MAX)
            .ttl(HOUR * 24)
            .build();
        let taken = allocation_counter::measure(|| {
            read(&tier, KEYS);
            assert_eq!(tier.cache_stats().entries, KEYS);
        });
        let (taken, reckoned) = (
            u64::try_from(taken.bytes_current).unwrap(),
            tier.cache_stats().bytes,
        );
        println!(
            "{name}: {taken} bytes taken, {reckoned} reckoned; a key: {} and {}",
            taken / KEYS,
            reckoned / KEYS
        );
        assert!(
            taken <= reckoned,
            "{name}: {taken} bytes taken, {reckoned} reckoned"
        );
        assert!(
            taken >= reckoned / 2,
            "{name}: {taken} bytes taken, {reckoned} reckoned"
        );
    }
}

#[tokio::test]
async fn a_small_value_does_not_keep_a_large_buffer_alive() {
    struct Large(Vec<u8>, Arc<AtomicUsize>);
    impl AsRef<[u8]> for Large {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Large {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }

    let freed = Arc::new(AtomicUsize::new(0));
    let buffer = Bytes::from_owner(Large(vec![7; 1024 * 1024], Arc::clone(&freed)));
    let tier = over(MemoryStore::new());
    let small = Entry::new(version(1), TAG, buffer.slice(..8));
    let change = Change::Put {
        entry: small,
        ttl: Ttl::After(HOUR),
    };
    assert_eq!(
        tier.swap(&KEY, None, change, &[]).await.unwrap(),
        Swap::Swapped
    );
    drop(buffer);
    // The wrapped store keeps the whole buffer; the cache does not.
    assert_eq!(put(tier.get_ref(), Some(1), 2).await, Swap::Swapped);
    assert_eq!(
        tier.peek(&KEY),
        Some(Hint::Value {
            tag: TAG,
            value: Bytes::from_static(&[7; 8])
        })
    );
    assert_eq!(freed.load(Ordering::SeqCst), 1);
}
