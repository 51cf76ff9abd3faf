use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use crate::random::{OsRandom, SecureRandom as _};
use crate::store::{
    Change, ClaimTag, Entry, Key, Sidecar, SidecarName, Store, StoreError, Ttl, Version,
};

/// Makes every call of a store once, on an entry of its own, to find out at the start what the
/// server does not allow or cannot do.
pub(in crate::store) async fn rehearse(store: &impl Store) -> Result<(), StoreError> {
    let mut random = [0; 32];
    OsRandom
        .fill(&mut random)
        .map_err(StoreError::unavailable)?;
    let (key, tag) = (Key::new(random), ClaimTag::new(random));
    let [inserted, claimed, replaced] = [1, 2, 3].map(|version| Version::new([version; 8]));
    let put = |version, ttl| Change::Put {
        entry: Entry::new(version, tag, Bytes::new()),
        ttl,
    };
    let minute = Duration::from_secs(60);
    let sidecar = Sidecar::new(
        SidecarName::new([0; 16]),
        Bytes::new(),
        Duration::from_millis(1),
    );
    let name = sidecar.name;
    let insert = put(inserted, Ttl::After(minute));
    let _ = store.swap(&key, None, insert, &[sidecar]).await?;
    store.claim(&key, &tag, claimed, minute).await?;
    let replace = put(replaced, Ttl::Keep);
    let _ = store.swap(&key, Some(claimed), replace, &[]).await?;
    store.get(&key).await?;
    let _ = store
        .swap(&key, Some(replaced), Change::Remove, &[])
        .await?;
    // Redis does not remove a sidecar with its entry. A read removes it when it has expired.
    for _ in 0..100 {
        if store.sidecar(&key, &name).await?.is_none() {
            break;
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
