//! The contract of the store port as a suite: every law is a function over a store that someone else made, so that
//! every adapter runs the same ones. The laws stand in the folder beside this file; `laws!` names them all.

pub mod harness;
pub mod interleaving;

mod breaking;
mod claiming;
mod controls;
mod keeping;
mod ledger;
mod listing;
mod ordering;
mod paging;
mod redriving;
mod repeating;
mod retention;
mod settling;

/// Makes a test of each law for each adapter.
macro_rules! laws {
    ($($laws:tt)*) => {
        laws_on!(on_sqlite, OnSqlite, $($laws)*);
        laws_on!(on_redis, OnRedis, $($laws)*);
    };
}

macro_rules! laws_on {
    ($place:ident, $kind:ident, $($module:ident: $($law:ident)*;)*) => {
        mod $place {
            $(mod $module {
                $(
                    #[tokio::test]
                    async fn $law() {
                        use crate::contract::{harness, $module};
                        $module::$law(&harness::$kind).await;
                    }
                )*
            })*
        }
    };
}

laws! {
    keeping:
        what_was_answered_is_there_after_a_reopening
        the_same_id_of_the_same_source_is_a_duplicate
        the_same_id_of_another_source_is_another_event
        a_duplicate_tells_whether_body_and_secret_differ
        a_mark_lives_as_long_as_its_window
        ids_grow_even_when_the_clock_goes_back
        a_full_store_keeps_nothing_new_but_still_settles
        an_event_comes_back_byte_for_byte;
    claiming:
        new_ones_come_in_the_order_of_acceptance
        a_claim_gives_nothing_twice
        new_and_due_ones_take_turns
        due_ones_come_in_the_order_of_due_times
        a_claim_keeps_its_bounds
        a_claim_of_one_large_event_gives_it
        the_next_due_time_is_told_when_nothing_is_ready
        an_unknown_target_gets_nothing
        targets_do_not_disturb_each_other
        what_is_older_is_claimed_whatever_the_target_does
        the_bell_rings_for_new_work_and_only_after_it_is_there
        a_claim_that_nobody_waits_for_is_given_back;
    settling:
        every_transition_leads_where_its_arrow_says
        a_lease_settles_once
        a_lease_from_before_a_reopening_cannot_settle
        a_settle_can_be_sent_again
        a_return_counts_nothing
        a_delivery_in_flight_is_taken_over_uncounted
        the_mark_of_a_take_over_goes_with_the_next_settle
        a_success_at_once_keeps_its_attempt
        the_newest_twenty_attempts_are_kept_and_earlier_replies_are_short
        a_hint_comes_back_with_its_attempt_and_its_delivery
        a_wait_is_measured_by_the_stores_clock;
    ordering:
        a_later_event_of_a_subject_waits_for_the_earlier_one
        a_parked_delivery_is_released_by_every_end_of_its_head
        a_failing_subject_holds_up_no_other
        events_without_a_subject_and_exempt_types_are_never_held
        a_cancelled_head_releases_its_subject
        a_redriven_delivery_never_runs_beside_its_subject
        a_parked_delivery_stays_while_its_subject_is_unfinished
        an_unordered_target_parks_nothing
        a_target_that_becomes_ordered_or_unordered_loses_nothing
        a_crowded_subject_does_not_starve_the_others;
    controls:
        a_paused_target_keeps_everything
        pausing_twice_changes_nothing
        an_orphan_keeps_its_place
        a_target_begins_now_or_at_the_beginning
        a_forgotten_target_holds_nothing_and_begins_anew
        only_an_orphan_can_be_forgotten
        a_lease_of_a_forgotten_target_still_ends;
    breaking:
        a_new_target_is_closed_and_only_its_revision_turns_it
        of_many_turns_from_one_revision_one_is_made
        an_open_breaker_gives_nothing_before_its_probe
        a_probe_is_one_lease_and_keeps_others_from_probing
        a_probe_takes_what_was_never_attempted_first
        a_probe_takes_the_least_attempted_whenever_it_is_due
        a_probe_keeps_the_order_of_its_subject
        without_anything_to_probe_with_the_next_event_is_the_probe
        a_claim_without_room_spends_no_probe
        a_failed_probe_counts_and_one_without_an_attempt_does_not
        closing_makes_what_waits_due_again_and_spreads_it
        closing_a_closed_breaker_changes_nothing
        a_breaker_survives_a_reopening
        settles_are_applied_while_the_breaker_is_open
        a_pause_and_an_age_count_whatever_the_breaker_is
        a_breaker_is_its_targets_own
        a_forgotten_target_has_no_breaker_to_turn
        a_turn_rings_the_bell;
    redriving:
        a_retry_starts_the_budget_again
        a_replay_delivers_what_has_ended
        a_replay_to_a_named_target_reaches_before_its_beginning
        a_cancel_ends_what_is_unfinished
        what_is_in_flight_or_not_reached_is_left_alone
        due_times_are_spread
        a_redrive_goes_on_where_it_stopped;
    repeating:
        a_repeated_step_moves_nothing_twice
        a_repeated_replay_still_reaches_what_never_had_a_record
        what_has_changed_since_is_left_alone
        a_count_is_what_apply_then_moves_and_changes_nothing
        of_two_operators_who_retry_at_once_one_sends
        a_clock_set_back_moves_nothing_twice;
    listing:
        pages_stay_right_while_events_arrive
        events_are_found_by_type_subject_source_and_time
        an_event_is_found_by_either_id
        an_ambiguous_id_names_its_candidates
        deliveries_are_found_by_every_condition
        pages_of_deliveries_join_without_gaps
        the_overview_counts_every_state
        refusals_are_listed_newest_first_up_to_their_cap
        an_event_shows_targets_that_have_not_reached_it
        a_cursor_of_another_list_gives_nothing
        events_are_found_by_what_their_payload_says
        a_search_by_payload_is_done_a_page_at_a_time
        deliveries_are_found_by_source;
    paging:
        pages_miss_nothing_and_show_nothing_twice_while_everything_changes;
    retention:
        nothing_unfinished_is_ever_removed
        a_target_that_lags_holds_the_log
        dead_letters_are_kept_longer
        a_sweep_is_bounded_and_goes_on
        marks_go_after_their_window
        counts_stay_right_after_a_sweep;
    ledger:
        the_audit_is_listed_newest_first
        the_audit_keeps_its_cap
        the_texts_of_the_audit_are_cut
        a_job_is_made_once
        of_many_who_ask_for_one_job_one_makes_it
        few_jobs_are_unfinished_at_a_time
        old_jobs_make_room_for_new_ones
        a_job_is_put_only_under_its_revision
        tallies_add_up_minute_by_minute
        old_tallies_are_dropped;
}
