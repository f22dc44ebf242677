//! Concurrent work on a list.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// Calls `work` for every item, `jobs` at a time, and returns the results in the order of the
/// items. After the first error, no more items are started.
///
/// # Errors
/// The first error.
pub(super) fn each<T: Sync, R: Send, E: Send>(
    jobs: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    each_until(&AtomicBool::new(false), jobs, items, work)
}

/// As [`each`]. After the first error, also sets `stopped`, which running work can check.
pub(super) fn each_until<T: Sync, R: Send, E: Send>(
    stopped: &AtomicBool,
    jobs: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let results = Mutex::new(Vec::with_capacity(items.len()));
    let run = || {
        while let Some((index, item)) = take(&next, items) {
            match work(item) {
                Ok(result) => lock(&results).push((index, result)),
                Err(error) => {
                    next.store(items.len(), Ordering::Relaxed);
                    lock(&failure).get_or_insert(error);
                    // After the failure is stored. Transfers that stop because of the flag fail,
                    // too, and their errors must not come first.
                    stopped.store(true, Ordering::Relaxed);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..jobs.min(items.len()) {
            scope.spawn(run);
        }
        run();
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(|held| held.into_inner()) {
        return Err(error);
    }
    let mut results = results.into_inner().unwrap_or_else(|held| held.into_inner());
    results.sort_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

fn take<'i, T>(next: &AtomicUsize, items: &'i [T]) -> Option<(usize, &'i T)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    items.get(index).map(|item| (index, item))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|held| held.into_inner())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<u64> = (0..40).collect();
        let doubled = each(7, &items, |item| {
            thread::sleep(Duration::from_micros(100 * (item % 5)));
            Ok::<_, ()>(2 * item)
        });
        assert_eq!(doubled.unwrap(), items.iter().map(|item| 2 * item).collect::<Vec<_>>());
        assert_eq!(each(3, &[] as &[u8], |_| Ok::<u8, ()>(1)), Ok(vec![]));
    }

    #[test]
    fn no_items_are_started_after_an_error() {
        let started = AtomicUsize::new(0);
        let items: Vec<usize> = (0..1000).collect();
        let result = each(2, &items, |item| {
            started.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(1));
            if *item == 3 { Err(*item) } else { Ok(()) }
        });
        assert_eq!(result, Err(3));
        assert!(started.into_inner() < 100);
    }
}
