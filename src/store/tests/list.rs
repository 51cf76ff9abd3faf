/// Makes a `#[test]` of every promise of the [`Store`](crate::store::Store) trait, for one store
/// (feature `store-tests`).
///
/// Takes an expression, evaluated once a test, for an async closure that opens another handle on
/// the same store each time it is called; see [`store::tests`](crate::store::tests). Attributes
/// behind it go to every test:
///
/// ```
/// # use tower_oauth_refresh::store::MemoryStore;
/// tower_oauth_refresh::store_tests!(
///     {
///         let store = MemoryStore::new();
///         async move || store.clone()
///     },
///     #[cfg(unix)]
/// );
/// # fn main() {}
/// ```
///
/// To be used once a module, outside of functions.
#[macro_export]
macro_rules! store_tests {
    (@each $wrap:ident $attributes:tt ($make:expr) $($theme:ident: $($name:ident,)+;)+) => {
        $($($crate::store_tests!(@one $wrap $attributes ($make) $theme $name);)+)+
    };
    (@one own [$($attribute:tt)*] ($make:expr) $theme:ident $name:ident) => {
        #[test]
        $($attribute)*
        fn $name() {
            $crate::store::tests::run($crate::store::tests::$theme::$name($make));
        }
    };
    (@one provided [$($attribute:tt)*] ($make:expr) $theme:ident $name:ident) => {
        #[test]
        $($attribute)*
        fn $name() {
            $crate::store::tests::run($crate::store::tests::$theme::$name($crate::store::tests::provided($make)));
        }
    };
    ($make:expr $(, #[$attribute:meta])* $(,)?) => {
        $crate::store_tests! {
            @each own [$(#[$attribute])*] ($make)
            swap:
                what_nobody_wrote_is_absent,
                what_was_put_can_be_read_over_every_handle,
                every_entry_comes_back_as_it_was_put,
                keys_do_not_collide,
                an_insert_over_an_entry_is_a_conflict,
                a_swap_of_another_version_is_a_conflict,
                a_swap_of_what_is_absent_is_a_conflict,
                a_conflict_shows_the_lease,
                a_swap_does_not_ask_for_the_lease,
                a_swap_can_be_sent_twice,
                a_swap_that_comes_again_late_is_a_conflict,
                what_was_removed_is_absent,
                a_removal_of_another_version_is_a_conflict,
                a_removal_can_be_sent_twice,
                a_hint_is_never_wrong,
            ;
            beside:
                nothing_is_beside_what_has_none,
                what_was_put_beside_can_be_read,
                every_value_beside_comes_back_as_it_was_put,
                names_do_not_collide,
                a_value_beside_can_be_replaced,
                a_value_beside_stays_through_swaps_and_claims,
                a_conflict_writes_nothing_beside,
                a_swap_with_a_value_beside_can_be_sent_twice,
            ;
            claim:
                what_is_absent_cannot_be_claimed,
                a_claim_takes_the_lease,
                a_lease_is_held_by_one,
                a_claim_of_another_tag_takes_no_lease,
                a_claim_goes_by_the_tag_in_place,
                a_swap_says_who_holds_the_lease,
                a_claim_can_be_sent_twice,
                a_claim_that_comes_again_late_takes_nothing,
                a_lease_runs_out,
                a_lease_that_ran_out_is_not_held,
            ;
            expiry:
                an_entry_expires_and_not_before_its_time,
                what_has_expired_is_absent_for_every_call,
                an_expired_key_can_be_inserted,
                an_entry_expires_under_a_lease,
                keep_keeps_the_end,
                after_sets_another_end,
                an_entry_that_is_renewed_stays,
                a_conflict_changes_no_end,
                a_claim_does_not_renew,
                a_claim_does_not_shorten,
                a_value_beside_expires_by_itself,
                swaps_do_not_renew_a_value_beside,
                a_replaced_value_beside_has_the_new_end,
                a_value_beside_a_kept_entry_expires,
            ;
            races:
                one_of_many_inserts_succeeds,
                one_of_many_inserts_over_an_expired_entry_succeeds,
                one_of_many_swaps_succeeds_with_what_is_beside,
                one_of_many_claims_takes_the_lease,
                one_of_many_claims_takes_a_lease_that_ran_out,
                no_update_is_lost,
                a_removal_and_a_swap_exclude_each_other,
                inserts_and_removals_take_turns,
                an_entry_is_never_seen_without_what_is_beside_it,
            ;
            announce:
                a_store_has_a_channel_or_not,
                every_handle_hears_what_is_announced,
                who_falls_behind_is_told,
                an_announcement_changes_no_entry,
            ;
        }

        /// The same with the `claim` that the trait provides.
        mod provided_claim {
            #[allow(unused_imports)]
            use super::*;

            $crate::store_tests! {
                @each provided [$(#[$attribute])*] ($make)
                claim:
                    what_is_absent_cannot_be_claimed,
                    a_claim_takes_the_lease,
                    a_lease_is_held_by_one,
                    a_claim_of_another_tag_takes_no_lease,
                    a_claim_goes_by_the_tag_in_place,
                    a_swap_says_who_holds_the_lease,
                    a_claim_can_be_sent_twice,
                    a_claim_that_comes_again_late_takes_nothing,
                    a_lease_runs_out,
                    a_lease_that_ran_out_is_not_held,
                ;
                expiry:
                    an_entry_expires_under_a_lease,
                    a_claim_does_not_renew,
                    a_claim_does_not_shorten,
                ;
                races:
                    one_of_many_claims_takes_the_lease,
                    one_of_many_claims_takes_a_lease_that_ran_out,
                    a_removal_and_a_swap_exclude_each_other,
                ;
            }
        }
    };
}
