/// Defines one `#[test]` for each promise of the [`Store`](crate::store::Store) trait that can be
/// tested, for one store (feature `conformance`).
///
/// The argument is an expression that is evaluated once for each test. It returns an async closure;
/// each call of the closure opens another handle to the same store. See
/// [`store::conformance`](crate::store::conformance). Attributes after the expression are added to
/// every test:
///
/// ```
/// # use tower_oauth_refresh::store::MemoryStore;
/// tower_oauth_refresh::store_conformance!(
///     {
///         let store = MemoryStore::new();
///         async move || store.clone()
///     },
///     #[cfg(unix)]
/// );
/// # fn main() {}
/// ```
///
/// Use it at most once in a module, outside of functions.
#[macro_export]
macro_rules! store_conformance {
    (@each $wrap:ident $attributes:tt ($make:expr) $($theme:ident: $($name:ident,)+;)+) => {
        $($($crate::store_conformance!(@one $wrap $attributes ($make) $theme $name);)+)+
    };
    (@one own [$($attribute:tt)*] ($make:expr) $theme:ident $name:ident) => {
        #[test]
        $($attribute)*
        fn $name() {
            $crate::store::conformance::run(
                stringify!($name),
                $crate::store::conformance::$theme::$name($make),
            );
        }
    };
    (@one provided [$($attribute:tt)*] ($make:expr) $theme:ident $name:ident) => {
        #[test]
        $($attribute)*
        fn $name() {
            $crate::store::conformance::run(
                stringify!($name),
                $crate::store::conformance::$theme::$name($crate::store::conformance::provided($make)),
            );
        }
    };
    ($make:expr $(, #[$attribute:meta])* $(,)?) => {
        $crate::store_conformance! {
            @each own [$(#[$attribute])*] ($make)
            swap:
                an_unwritten_key_is_absent,
                a_written_entry_is_visible_on_every_handle,
                entries_round_trip,
                keys_do_not_collide,
                an_insert_over_an_entry_is_a_conflict,
                a_swap_that_expects_another_version_is_a_conflict,
                a_swap_of_an_absent_entry_is_a_conflict,
                a_conflict_returns_the_lease,
                a_swap_ignores_the_lease,
                a_swap_is_idempotent,
                a_late_copy_of_a_swap_is_a_conflict,
                a_hint_is_never_wrong,
            ;
            removal:
                a_removed_entry_is_absent,
                a_removal_that_expects_another_version_is_a_conflict,
                a_removal_is_idempotent,
            ;
            sidecar:
                an_unwritten_sidecar_is_absent,
                a_written_sidecar_is_visible_on_every_handle,
                sidecars_round_trip,
                sidecars_of_different_keys_and_names_are_independent,
                a_sidecar_can_be_replaced,
                a_sidecar_survives_swaps_and_claims,
                a_conflict_writes_no_sidecar,
                a_swap_with_a_sidecar_is_idempotent,
            ;
            sidecars:
                a_swap_writes_several_sidecars,
                a_conflict_writes_none_of_several_sidecars,
                a_swap_with_several_sidecars_is_idempotent,
                sidecars_of_different_entries_do_not_mix,
                sidecars_of_one_swap_expire_independently,
                a_swap_with_too_many_sidecars_fails,
                an_entry_keeps_128_sidecars,
            ;
            claim:
                an_absent_entry_cannot_be_claimed,
                a_claim_takes_the_lease,
                a_held_lease_cannot_be_claimed,
                a_claim_with_another_tag_takes_no_lease,
                a_claim_compares_the_current_tag,
                a_swap_releases_or_sets_the_lease,
                a_claim_is_idempotent,
                a_late_copy_of_a_claim_takes_no_lease,
                an_expired_lease_can_be_taken_over,
                an_expired_lease_is_not_reported_as_held,
            ;
            expiry:
                an_entry_expires_after_its_ttl_and_not_before,
                an_expired_entry_is_absent_for_every_call,
                an_insert_replaces_an_expired_entry,
                an_entry_expires_while_a_lease_is_held,
                ttl_keep_keeps_the_expiry,
                ttl_after_sets_a_new_expiry,
                a_renewed_entry_does_not_expire,
                a_conflict_does_not_change_the_expiry,
                a_claim_does_not_extend_the_entry,
                a_claim_does_not_shorten_the_entry,
                a_sidecar_expires_independently_of_its_entry,
                swaps_do_not_extend_a_sidecar,
                a_replaced_sidecar_has_the_new_expiry,
                a_sidecar_written_with_ttl_keep_expires,
            ;
            races:
                one_of_many_concurrent_inserts_succeeds,
                one_of_many_concurrent_inserts_over_an_expired_entry_succeeds,
                one_of_many_concurrent_swaps_succeeds_with_its_sidecar,
                one_of_many_concurrent_claims_takes_the_lease,
                one_of_many_concurrent_claims_takes_over_an_expired_lease,
                concurrent_updates_are_not_lost,
                concurrent_removals_swaps_and_claims_exclude_each_other,
                concurrent_inserts_and_removals_do_not_interfere,
                an_entry_is_never_visible_without_its_sidecar,
            ;
            announce:
                every_handle_has_a_channel_or_none_has,
                every_handle_receives_announcements,
                a_lagging_subscriber_is_notified,
                an_announcement_does_not_change_the_entry,
            ;
        }

        /// The tests of `claim`, run with the default `claim` of the trait.
        mod provided_claim {
            #[allow(unused_imports)]
            use super::*;

            $crate::store_conformance! {
                @each provided [$(#[$attribute])*] ($make)
                claim:
                    an_absent_entry_cannot_be_claimed,
                    a_claim_takes_the_lease,
                    a_held_lease_cannot_be_claimed,
                    a_claim_with_another_tag_takes_no_lease,
                    a_claim_compares_the_current_tag,
                    a_swap_releases_or_sets_the_lease,
                    a_claim_is_idempotent,
                    a_late_copy_of_a_claim_takes_no_lease,
                    an_expired_lease_can_be_taken_over,
                    an_expired_lease_is_not_reported_as_held,
                ;
                expiry:
                    an_entry_expires_while_a_lease_is_held,
                    a_claim_does_not_extend_the_entry,
                    a_claim_does_not_shorten_the_entry,
                ;
                races:
                    one_of_many_concurrent_claims_takes_the_lease,
                    one_of_many_concurrent_claims_takes_over_an_expired_lease,
                    concurrent_removals_swaps_and_claims_exclude_each_other,
                ;
            }
        }
    };
}
