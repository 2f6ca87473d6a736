use super::*;
use crate::port::{Arrivals, ListenerId, Sharing};

fn worker(number: u32) -> WorkerId {
    WorkerId::from_index(number)
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn none_wait(_: LaneId) -> u32 {
    0
}

/// These workers start, one a slot.
fn ports(sharing: Sharing, workers: u32) -> Ports {
    let mut ports = Ports::new(sharing, Arrivals::Untold);
    (0..workers).for_each(|number| ports.starting(worker(number), number));
    ports
}

/// A worker's own socket joins and listens.
fn serve(ports: &mut Ports, number: u32, port: u16) -> LaneId {
    let lane = ports.joined(worker(number), at(port));
    ports.joins_group(lane);
    let _ = ports.listened(worker(number), Some(lane));
    lane
}

fn bind(ports: &Ports, number: u32, port: u16) -> Bind {
    ports.bind(worker(number), at(port), None, false, &none_wait)
}

#[test]
fn the_first_is_first_and_the_next_is_not() {
    let mut ports = ports(Sharing::Lanes, 2);
    assert_eq!(bind(&ports, 0, 80), Bind::Join { first: true });
    serve(&mut ports, 0, 80);
    assert_eq!(bind(&ports, 1, 80), Bind::Join { first: false });
    assert_eq!(bind(&ports, 1, 81), Bind::Join { first: true });
    assert!(ports.has_port(80) && !ports.has_port(81));
}

#[test]
fn the_dead_workers_lane_with_the_queue_is_lent_first() {
    let mut ports = ports(Sharing::Lanes, 3);
    let lanes = [0, 1, 2].map(|number| serve(&mut ports, number, 80));
    for number in [0, 1, 2] {
        assert_eq!(ports.gone(worker(number)), []);
    }
    let queued = |lane| if lane == lanes[1] { 3 } else { 0 };
    for (number, lane) in [(3, lanes[1]), (4, lanes[0]), (5, lanes[2])] {
        ports.starting(worker(number), number - 3);
        let answer = ports.bind(worker(number), at(80), None, false, &queued);
        assert_eq!(answer, Bind::Lend(lane));
        ports.lent(worker(number), lane);
    }
    assert_eq!(ports.lanes_of(worker(3)), [lanes[1]]);
}

#[test]
fn a_second_bind_of_the_same_worker_is_again() {
    let mut ports = ports(Sharing::Lanes, 2);
    let lane = serve(&mut ports, 0, 80);
    assert_eq!(bind(&ports, 0, 80), Bind::Again);
    let same_socket = ports.bind(worker(0), at(80), Some(lane), false, &none_wait);
    assert_eq!(same_socket, Bind::Proceed, "the kernel says EINVAL");
    assert_eq!(ports.gone(worker(0)), []);
    ports.lent(worker(1), lane);
    assert_eq!(bind(&ports, 1, 80), Bind::Again);
}

#[test]
fn a_socket_that_stays_joins_although_a_lane_is_free() {
    let mut ports = ports(Sharing::Lanes, 1);
    let old = serve(&mut ports, 0, 80);
    ports.gone(worker(0));
    ports.starting(worker(1), 0);
    let answer = ports.bind(worker(1), at(80), None, true, &none_wait);
    assert_eq!(answer, Bind::Join { first: false });
    ports.joined(worker(1), at(80));
    assert_eq!(ports.passed_over(worker(1), at(80)), [old]);
}

/// One that stays in one start and another server in the next: slot 0's worker took
/// slot 1's lane over, so nobody would ever take its own.
#[test]
fn a_lane_whose_slot_has_another_by_now_is_passed_over() {
    let mut ports = ports(Sharing::Lanes, 2);
    let lanes = [0, 1].map(|number| serve(&mut ports, number, 80));
    ports.gone(worker(0));
    ports.gone(worker(1));
    ports.starting(worker(2), 0);
    ports.starting(worker(3), 1);
    ports.lent(worker(2), lanes[1]);
    ports.joined(worker(3), at(80));
    assert_eq!(ports.passed_over(worker(3), at(80)), [lanes[0]]);
}

#[test]
fn of_a_slot_without_a_worker_one_lane_waits_for_the_next() {
    let mut ports = ports(Sharing::Lanes, 2);
    let lanes = [0, 0, 1].map(|number| serve(&mut ports, number, 80));
    ports.gone(worker(0));
    assert_eq!(ports.passed_over(worker(1), at(80)), [lanes[1]]);
}

#[test]
fn one_queue_is_one_lane_for_all_and_outlives_them() {
    let mut ports = ports(Sharing::OneQueue, 3);
    let lane = serve(&mut ports, 0, 80);
    for number in [1, 2] {
        assert_eq!(bind(&ports, number, 80), Bind::Lend(lane));
        ports.lent(worker(number), lane);
    }
    ports.gone(worker(0));
    ports.abandoned(worker(1), lane);
    assert!(ports.is_held(lane), "the third has it");
    ports.gone(worker(2));
    ports.starting(worker(3), 0);
    assert_eq!(bind(&ports, 3, 80), Bind::Lend(lane));
}

/// Two bind, neither listens yet, and the first closes its socket: the
/// other has it still.
#[test]
fn one_queue_is_not_lost_with_the_first_that_closes_it() {
    let mut ports = ports(Sharing::OneQueue, 2);
    let lane = ports.joined(worker(0), at(80));
    ports.lent(worker(1), lane);
    ports.abandoned(worker(0), lane);
    assert!(ports.is_bound(lane));
    assert_eq!(ports.lanes_of(worker(1)), [lane]);
}

#[test]
fn beside_one_queue_a_socket_that_stays_is_a_lane_that_dies_with_its_worker() {
    let mut ports = ports(Sharing::OneQueue, 2);
    let queue = serve(&mut ports, 0, 80);
    let own = serve(&mut ports, 1, 80);
    ports.gone(worker(1));
    assert!(ports.is_held(queue) && !ports.is_held(own));
}

/// Beside `--listen 80` a server that knows nothing of it binds port 80:
/// it gets the lane that it was started with.
#[test]
fn a_bind_of_clinits_own_listener_gets_the_lane_that_was_handed_down() {
    let mut ports = ports(Sharing::Lanes, 1);
    let listener: ListenerId = ports.open(at(80), Sharing::Lanes);
    assert_eq!(ports.lease(worker(0), listener, &none_wait), None);
    let lane = ports.made(listener);
    let leased = ports.lease(worker(0), listener, &none_wait);
    assert_eq!(leased, Some(lane));
    assert_eq!(bind(&ports, 0, 80), Bind::Lend(lane));
    ports.lent(worker(0), lane);
    assert_eq!(bind(&ports, 0, 80), Bind::Again);
}

#[test]
fn a_socket_that_stays_takes_the_place_of_the_lane_that_was_handed_down() {
    let mut ports = ports(Sharing::Lanes, 1);
    let listener = ports.open(at(80), Sharing::Lanes);
    let lane = ports.made(listener);
    ports.lease(worker(0), listener, &none_wait);
    let answer = ports.bind(worker(0), at(80), None, true, &none_wait);
    assert_eq!(answer, Bind::Join { first: false });
    let own = ports.joined(worker(0), at(80));
    assert_eq!(ports.lanes_of(worker(0)), [own]);
    assert_eq!(ports.passed_over(worker(0), at(80)), [lane]);
}

#[test]
fn what_was_under_way_for_a_worker_that_is_gone_leaves_nothing() {
    let mut ports = ports(Sharing::Lanes, 1);
    ports.gone(worker(0));
    let lane = ports.joined(worker(0), at(80));
    assert!(!ports.is_bound(lane) && !ports.has_port(80));
    assert_eq!(bind(&ports, 0, 80), Bind::Proceed);
}

#[test]
fn who_binds_too_much_does_so_without_clinit() {
    let mut ports = ports(Sharing::Lanes, 2);
    for port in 1..=256 {
        assert_eq!(bind(&ports, 0, port), Bind::Join { first: true });
        ports.joined(worker(0), at(port));
    }
    assert_eq!(bind(&ports, 0, 257), Bind::Proceed);
    assert_eq!(bind(&ports, 1, 257), Bind::Join { first: true });
    assert_eq!(ports.gone(worker(0)).len(), 256);
    for port in 1..=4096 {
        serve(&mut ports, 1, port);
    }
    assert_eq!(bind(&ports, 1, 4097), Bind::Proceed);
}

#[test]
fn the_inspectors_port_is_no_readiness() {
    let mut ports = ports(Sharing::Lanes, 1);
    let inspector = ports.joined(worker(0), INSPECTOR);
    ports.joins_group(inspector);
    assert!(!ports.listened(worker(0), Some(inspector)));
    let lane = ports.joined(worker(0), at(80));
    assert!(ports.listened(worker(0), Some(lane)));
}

#[test]
fn a_successor_is_ready_where_its_predecessor_was() {
    let mut ports = ports(Sharing::Lanes, 1);
    serve(&mut ports, 0, 80);
    ports.admit(worker(0), &none_wait);
    // After it was ready, and it counts too.
    serve(&mut ports, 0, 81);
    // Beside it, as in a reload.
    ports.starting(worker(1), 0);
    let lane = ports.joined(worker(1), at(81));
    assert!(!ports.listened(worker(1), Some(lane)));
    assert!(!ports.listened(worker(1), None));
    let lane = ports.joined(worker(1), at(80));
    assert!(ports.listened(worker(1), Some(lane)));
}

/// It was asked to stop before it was ready: the one before it is still
/// the example.
#[test]
fn one_that_never_was_ready_sets_no_example() {
    let mut ports = ports(Sharing::Lanes, 1);
    serve(&mut ports, 0, 80);
    serve(&mut ports, 0, 81);
    ports.admit(worker(0), &none_wait);
    ports.gone(worker(0));
    ports.starting(worker(1), 0);
    serve(&mut ports, 1, 80);
    ports.turn_away(worker(1));
    ports.gone(worker(1));
    ports.starting(worker(2), 0);
    let lane = ports.joined(worker(2), at(80));
    assert!(!ports.listened(worker(2), Some(lane)));
}

/// A port that a worker tries and closes (Node's port probe) is none that
/// its successor has to have; what it closes at its end is.
#[test]
fn a_port_that_was_closed_in_time_is_not_expected() {
    let mut ports = ports(Sharing::Lanes, 1);
    let server = serve(&mut ports, 0, 80);
    ports.admit(worker(0), &none_wait);
    let probe = serve(&mut ports, 0, 4711);
    ports.abandoned(worker(0), probe);
    ports.turn_away(worker(0));
    ports.abandoned(worker(0), server);
    ports.gone(worker(0));
    ports.starting(worker(1), 0);
    assert!(!ports.listened(worker(1), None));
    ports.lent(worker(1), server);
    assert!(ports.listened(worker(1), Some(server)));
}

#[test]
fn addresses_that_one_worker_cannot_have_both() {
    for (first, second, apart, expected) in [
        ("127.0.0.1:80", "127.0.0.1:80", false, true),
        ("127.0.0.1:80", "127.0.0.1:81", false, false),
        ("127.0.0.1:80", "127.0.0.2:80", false, false),
        ("0.0.0.0:80", "127.0.0.2:80", false, true),
        ("127.0.0.2:80", "0.0.0.0:80", false, true),
        ("0.0.0.0:80", "[::]:80", false, true),
        ("0.0.0.0:80", "[::]:80", true, false),
        ("[::]:80", "127.0.0.1:80", false, true),
        ("[::1]:80", "127.0.0.1:80", false, false),
        ("[::1]:80", "[::]:80", true, true),
    ] {
        let [one, other] = [first, second].map(|address| address.parse().unwrap());
        assert_eq!(overlap(one, other, apart), expected, "{first} {second}");
    }
}
