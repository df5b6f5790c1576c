//! expiry: which flow's time comes next.
//!
//! Every flow has one timer. A packet does not move it: when it comes due, the cache looks
//! whether the flow's end has moved meanwhile and arms it again. So a packet costs nothing here,
//! and each arming is paid for by a packet before it.
//!
//! Timers lie in a wheel of slots, each a stretch of time, as doubly linked lists. When the clock
//! reaches a slot, its timers go to a small heap that puts them in exact order.
//!
//! ```text
//! arm --> slot | slot | slot | ...      (by deadline, unordered within)
//!           |
//!           +--> near: heap by (deadline, sequence) --> pop_due
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Slots of the wheel: 64 words of 64 bits say which are occupied.
const SLOT_COUNT: usize = 4096;

/// No timer.
const NIL: u32 = u32::MAX;

/// In `Timer::slot`: not armed.
const UNARMED: u32 = u32::MAX;

/// In `Timer::slot`: in the heap.
const NEAR: u32 = u32::MAX - 1;

/// A timer that came due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    /// When it was armed for.
    pub(super) deadline_nanos: i64,
    /// Which flow began first, among those of the same deadline.
    pub(super) sequence: u64,
    /// Whose it is.
    pub(super) index: u32,
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    deadline_nanos: i64,
    sequence: u64,
    slot: u32,
    previous: u32,
    next: u32,
}

/// The timers of all flows, by the flows' indexes.
#[derive(Debug)]
pub(super) struct Wheel {
    timers: Vec<Timer>,
    heads: Box<[u32; SLOT_COUNT]>,
    /// One bit a slot that is not empty.
    occupied: [u64; SLOT_COUNT / 64],
    /// One bit a word of `occupied` that is not zero.
    occupied_words: u64,
    /// A slot is 2 to this power nanoseconds.
    slot_nanos_log2: u32,
    /// The last stretch of time whose timers went to the heap.
    tick: i64,
    near: BinaryHeap<Reverse<Due>>,
    /// Timers in the heap that are still armed.
    near_count: usize,
    /// Before this time nothing comes due.
    quiet_until_nanos: i64,
}

impl Wheel {
    /// A wheel for timers that are armed at most `horizon_nanos` ahead of the clock.
    pub(super) fn new(horizon_nanos: i64) -> Self {
        let slot_count = i64::try_from(SLOT_COUNT).expect("4096 fits");
        let slot_nanos = horizon_nanos.max(1) / (slot_count - 2) + 1;
        let slot_nanos = slot_nanos.unsigned_abs().next_power_of_two();
        Self {
            timers: Vec::new(),
            heads: Box::new([NIL; SLOT_COUNT]),
            occupied: [0; SLOT_COUNT / 64],
            occupied_words: 0,
            slot_nanos_log2: slot_nanos.ilog2(),
            tick: i64::MIN,
            near: BinaryHeap::new(),
            near_count: 0,
            quiet_until_nanos: i64::MIN,
        }
    }

    /// Arms the timer of the flow at `index`, which is not armed.
    pub(super) fn arm(&mut self, index: u32, deadline_nanos: i64, sequence: u64) {
        let ahead = self.tick_of(deadline_nanos).saturating_sub(self.tick);
        let ahead_max = i64::try_from(SLOT_COUNT - 1).expect("4095 fits");
        let mut timer = Timer { deadline_nanos, sequence, slot: UNARMED, previous: NIL, next: NIL };
        if ahead > ahead_max {
            // Beyond the wheel: it comes due early and is armed again.
            let tick = self.tick.saturating_add(ahead_max);
            timer.deadline_nanos = tick.saturating_mul(1 << self.slot_nanos_log2);
        }
        let place = place(index);
        if self.timers.len() <= place {
            self.timers.resize(place + 1, timer);
        }
        debug_assert_eq!(self.timers[place].slot, UNARMED, "armed once at a time");
        self.timers[place] = timer;
        match usize::try_from(ahead.min(ahead_max)) {
            Ok(ahead @ 1..) => self.link(index, (self.current_slot() + ahead) % SLOT_COUNT),
            _ => self.push_near(index),
        }
    }

    /// Disarms the timer of the flow at `index`.
    pub(super) fn disarm(&mut self, index: u32) {
        let timer = self.timers[place(index)];
        match timer.slot {
            UNARMED => return,
            // Its item in the heap is known by being unarmed.
            NEAR => self.near_count -= 1,
            slot => self.unlink(&timer, place(slot)),
        }
        self.timers[place(index)].slot = UNARMED;
    }

    /// When the timer of the flow at `index` is armed for.
    pub(super) fn deadline_nanos(&self, index: u32) -> i64 {
        self.timers[place(index)].deadline_nanos
    }

    /// Disarms and returns the first timer that is due at `now_nanos`: in the order of their
    /// deadlines, then of their flows' beginnings.
    #[inline]
    pub(super) fn pop_due(&mut self, now_nanos: i64) -> Option<Due> {
        if now_nanos < self.quiet_until_nanos {
            return None;
        }
        self.pop_due_slowly(now_nanos)
    }

    fn pop_due_slowly(&mut self, now_nanos: i64) -> Option<Due> {
        let now_tick = self.tick_of(now_nanos);
        loop {
            if let Some(first) = self.first_near() {
                if first.deadline_nanos <= now_nanos {
                    return Some(self.pop_near(first));
                }
                // Nothing in the slots comes before what is in the heap.
                self.quiet_until_nanos = first.deadline_nanos.min(self.end_of_tick());
                return None;
            }
            if !self.advance(now_tick) {
                self.quiet_until_nanos = self.end_of_tick();
                return None;
            }
        }
    }

    /// Disarms and returns the timer with the earliest deadline of all.
    pub(super) fn pop_first(&mut self) -> Option<Due> {
        loop {
            if let Some(first) = self.first_near() {
                return Some(self.pop_near(first));
            }
            if !self.advance(i64::MAX) {
                return None;
            }
        }
    }

    /// Moves to the next stretch of time up to `tick_max` that has timers, and these to the
    /// heap. False if there is none: then the wheel stands at `tick_max`.
    fn advance(&mut self, tick_max: i64) -> bool {
        if self.tick >= tick_max {
            return false;
        }
        let Some(ahead) = self.next_occupied() else {
            // Standing at the end of time would leave no slot for what is armed next.
            if tick_max != i64::MAX {
                self.tick = tick_max;
            }
            return false;
        };
        let next_tick = self.tick.saturating_add(ahead);
        if next_tick > tick_max {
            self.tick = tick_max;
            return false;
        }
        self.tick = next_tick;
        let slot = self.current_slot();
        let mut index = std::mem::replace(&mut self.heads[slot], NIL);
        self.note_empty(slot);
        while index != NIL {
            let next = self.timers[place(index)].next;
            self.push_near(index);
            index = next;
        }
        true
    }

    /// How many ticks ahead the next occupied slot lies: 1 to `SLOT_COUNT`.
    fn next_occupied(&self) -> Option<i64> {
        let from = (self.current_slot() + 1) % SLOT_COUNT;
        let (word, bit) = (from / 64, from % 64);
        let slot = match self.occupied[word] >> bit << bit {
            0 => {
                // The first word that has a bit, from the next one on and round to this one.
                let turn = (word as u32 + 1) % 64;
                let words = self.occupied_words.rotate_right(turn);
                if words == 0 {
                    return None;
                }
                let word = (turn + words.trailing_zeros()) as usize % 64;
                word * 64 + self.occupied[word].trailing_zeros() as usize
            }
            bits => word * 64 + bits.trailing_zeros() as usize,
        };
        let ahead = (slot + SLOT_COUNT - from) % SLOT_COUNT + 1;
        i64::try_from(ahead).ok()
    }

    fn first_near(&mut self) -> Option<Due> {
        while let Some(&Reverse(due)) = self.near.peek() {
            if self.is_armed_near(&due) {
                return Some(due);
            }
            self.near.pop();
        }
        None
    }

    fn pop_near(&mut self, first: Due) -> Due {
        self.near.pop();
        self.near_count -= 1;
        self.timers[place(first.index)].slot = UNARMED;
        first
    }

    fn push_near(&mut self, index: u32) {
        let timer = &mut self.timers[place(index)];
        timer.slot = NEAR;
        let due = Due { deadline_nanos: timer.deadline_nanos, sequence: timer.sequence, index };
        self.near_count += 1;
        self.near.push(Reverse(due));
        self.quiet_until_nanos = self.quiet_until_nanos.min(due.deadline_nanos);
        // Disarmed timers leave their items behind; they never outnumber the armed for long.
        if self.near.len() > 2 * self.near_count + 64 {
            let timers = &self.timers;
            self.near.retain(|Reverse(due)| is_armed_near(timers, due));
        }
    }

    fn is_armed_near(&self, due: &Due) -> bool {
        is_armed_near(&self.timers, due)
    }

    fn link(&mut self, index: u32, slot: usize) {
        let head = std::mem::replace(&mut self.heads[slot], index);
        if head != NIL {
            self.timers[place(head)].previous = index;
        }
        let timer = &mut self.timers[place(index)];
        timer.slot = slot as u32;
        timer.next = head;
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.occupied_words |= 1 << (slot / 64);
    }

    fn unlink(&mut self, timer: &Timer, slot: usize) {
        if timer.next != NIL {
            self.timers[place(timer.next)].previous = timer.previous;
        }
        if timer.previous == NIL {
            self.heads[slot] = timer.next;
            if timer.next == NIL {
                self.note_empty(slot);
            }
        } else {
            self.timers[place(timer.previous)].next = timer.next;
        }
    }

    fn note_empty(&mut self, slot: usize) {
        self.occupied[slot / 64] &= !(1 << (slot % 64));
        if self.occupied[slot / 64] == 0 {
            self.occupied_words &= !(1 << (slot / 64));
        }
    }

    const fn tick_of(&self, time_nanos: i64) -> i64 {
        time_nanos >> self.slot_nanos_log2
    }

    const fn current_slot(&self) -> usize {
        // The low bits of a negative tick go round the wheel as those of a positive one do.
        (self.tick as usize) % SLOT_COUNT
    }

    /// The first moment after the stretch of time that the wheel stands at.
    fn end_of_tick(&self) -> i64 {
        self.tick.saturating_add(1).saturating_mul(1_i64 << self.slot_nanos_log2)
    }
}

/// Does an item of the heap speak for a timer that is still armed as it says?
fn is_armed_near(timers: &[Timer], due: &Due) -> bool {
    let timer = &timers[place(due.index)];
    timer.slot == NEAR
        && timer.sequence == due.sequence
        && timer.deadline_nanos == due.deadline_nanos
}

const fn place(index: u32) -> usize {
    index as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        /// The clock moves on, then a timer is armed so far ahead of it.
        Arm { wait: i64, ahead: i64 },
        /// One of the armed timers is disarmed.
        Disarm { pick: usize },
        /// The earliest is taken, due or not.
        PopFirst,
    }

    fn step(horizon: i64) -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..horizon / 8, 0..=horizon).prop_map(|(wait, ahead)| Step::Arm { wait, ahead }),
            1 => (0..horizon * 2, 0..=horizon).prop_map(|(wait, ahead)| Step::Arm { wait, ahead }),
            3 => any::<usize>().prop_map(|pick| Step::Disarm { pick }),
            1 => Just(Step::PopFirst),
        ]
    }

    fn steps() -> impl Strategy<Value = (i64, i64, Vec<Step>)> {
        (1_i64..1 << 40, -1_i64 << 50..1 << 50).prop_flat_map(|(horizon, start)| {
            let horizon = horizon.max(16);
            let steps = prop::collection::vec(step(horizon), 1..200);
            (Just(horizon), Just(start), steps)
        })
    }

    proptest! {
        /// Against an ordered map of all timers.
        #[test]
        fn timers_come_due_in_exact_order((horizon, start, steps) in steps()) {
            let mut wheel = Wheel::new(horizon);
            let mut model = BTreeMap::new();
            let mut now = start;
            let (mut sequence, mut free) = (0_u64, Vec::new());
            prop_assert_eq!(wheel.pop_due(now), None);
            for step in steps {
                match step {
                    Step::Arm { wait, ahead } => {
                        now += wait;
                        while let Some(due) = wheel.pop_due(now) {
                            let first = model.pop_first();
                            prop_assert_eq!(first, Some(((due.deadline_nanos, due.sequence), due.index)));
                            free.push(due.index);
                        }
                        if let Some(((deadline, _), _)) = model.first_key_value() {
                            prop_assert!(*deadline > now);
                        }
                        let index = free.pop().unwrap_or_else(|| u32::try_from(model.len()).unwrap());
                        wheel.arm(index, now + ahead, sequence);
                        model.insert((now + ahead, sequence), index);
                        sequence += 1;
                    }
                    Step::Disarm { pick } => {
                        let Some((&key, &index)) = model.iter().nth(pick % model.len().max(1)) else {
                            continue;
                        };
                        wheel.disarm(index);
                        model.remove(&key);
                        free.push(index);
                    }
                    Step::PopFirst => {
                        let first = wheel.pop_first();
                        let expected = model.pop_first();
                        prop_assert_eq!(
                            first.map(|due| ((due.deadline_nanos, due.sequence), due.index)),
                            expected
                        );
                        free.extend(first.map(|due| due.index));
                    }
                }
            }
            while let Some(first) = wheel.pop_first() {
                let expected = model.pop_first();
                prop_assert_eq!(expected, Some(((first.deadline_nanos, first.sequence), first.index)));
            }
            prop_assert!(model.is_empty());
        }
    }

    #[test]
    fn a_deadline_beyond_the_wheel_comes_due_early() {
        let mut wheel = Wheel::new(1_000);
        assert_eq!(wheel.pop_due(0), None);
        wheel.arm(0, 1_000_000, 0);
        let due = wheel.pop_first().unwrap();
        assert!(due.deadline_nanos < 1_000_000 && due.deadline_nanos >= 1_000);
    }

    #[test]
    fn items_of_disarmed_timers_do_not_pile_up() {
        let mut wheel = Wheel::new(1_000_000);
        assert_eq!(wheel.pop_due(0), None);
        for sequence in 0..10_000 {
            wheel.arm(0, 1, sequence);
            wheel.disarm(0);
        }
        assert!(wheel.near.len() <= 65, "{}", wheel.near.len());
    }
}
