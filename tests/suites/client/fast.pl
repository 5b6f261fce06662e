#!/usr/bin/perl
# Our short list for Cache::Memcached::Fast: fast.pl HOST PORT; TAP, as Perl has it.
use strict;
use warnings;
use Test::More tests => 11;
use Cache::Memcached::Fast;

my $client = Cache::Memcached::Fast->new({ servers => ["$ARGV[0]:$ARGV[1]"], utf8 => 1 });
ok($client->flush_all, 'flush');
ok($client->set('k', 'v', 100) && $client->get('k') eq 'v', 'set, get');
ok($client->set('h', { a => [1] }) && $client->get('h')->{a}[0] == 1, 'types');
ok(!$client->add('k', 'w') && $client->replace('k', 'w'), 'add, replace');
ok($client->append('k', '>') && $client->prepend('k', '<') && $client->get('k') eq '<w>', 'append, prepend');
my ($token) = @{ $client->gets('k') };
ok($client->cas('k', $token, 'c') && !$client->cas('k', $token, 'd'), 'cas');
ok($client->set('n', 9) && $client->incr('n', 3) == 12 && $client->decr('n', 20) == 0, 'counter');
$client->set_multi(map { ["m$_", $_] } 0 .. 199);
is(scalar keys %{ $client->get_multi(map { "m$_" } 0 .. 200) }, 200, 'many');
my $large = 'x' x 900_000;
ok($client->set('large', $large) && $client->get('large') eq $large, 'large');
$client->set("q$_", $_) for 0 .. 99;    # in void context these go out with noreply
$client->nowait_push;
is($client->get('q99'), 99, 'noreply');
ok($client->touch('k', 100) && $client->delete('k') && !defined $client->get('k'), 'touch, delete');
