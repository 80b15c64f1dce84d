#!/usr/bin/env php
<?php
/*
 * Follows profiles with PHP's pgsql: LISTEN, then what changed since the bookmark, then wait. Prints "version customer", and "by" the event if it was told.
 *
 *     examples/listen.php bookmark-file     connects as libpq does: PGHOST, PGUSER, PGDATABASE, ...
 *
 * The file keeps the bookmark; without it every profile is told first.
 */
const CATCH_UP_EVERY = 600; // seconds: what was announced while the server's queue was full, too
const CHANGES = 'SELECT customer_id, version, next_bookmark FROM profile_stream.profiles_changed_since($1)';

class Follower
{
    private int $catchUpAt = 0;

    public function __construct(private PgSql\Connection $connection, private string $bookmarkFile)
    {
    }

    private function changed(string $customerId, int $version, ?array $lastEvent = null): void
    {
        echo $version, ' ', $customerId, $lastEvent === null ? '' : " by {$lastEvent['eventId']}", "\n";
    }

    private function notified(string $payload): void
    {
        $change = json_decode($payload, true, 512, JSON_THROW_ON_ERROR);
        if (isset($change['customerId'])) {
            $this->changed($change['customerId'], $change['version'], $change['lastEvent'] ?? null);
        } else {
            $this->catchUpAt = 0; // many at once: a stream with notify => 'batch', or swap_rebuild()
        }
    }

    private function catchUp(): void
    {
        $this->catchUpAt = time() + CATCH_UP_EVERY;
        $bookmark = is_file($this->bookmarkFile) ? file_get_contents($this->bookmarkFile) : null;
        $rows = pg_query_params($this->connection, CHANGES, [$bookmark]);
        while ($row = pg_fetch_assoc($rows)) {
            $this->changed($row['customer_id'], (int) $row['version']);
            $bookmark = $row['next_bookmark'];
        }
        if ($bookmark !== null) { // only now: everything before it has been told
            file_put_contents("$this->bookmarkFile.new", $bookmark);
            rename("$this->bookmarkFile.new", $this->bookmarkFile);
        }
    }

    public function follow(): void
    {
        $channel = pg_fetch_result(pg_query($this->connection, 'SELECT profile_stream.notification_channel()'), 0, 0);
        pg_query($this->connection, 'LISTEN ' . pg_escape_identifier($this->connection, $channel));
        while (true) {
            while ($notify = pg_get_notify($this->connection, PGSQL_ASSOC)) {
                $this->notified($notify['payload']);
            }
            if (pg_connection_status($this->connection) !== PGSQL_CONNECTION_OK) {
                throw new ErrorException('the connection is gone');
            }
            $wait = $this->catchUpAt - time();
            if ($wait <= 0) {
                $this->catchUp();
                continue;
            }
            $sockets = [pg_socket($this->connection)];
            $none = null;
            stream_select($sockets, $none, $none, $wait);
        }
    }
}

if ($argc !== 2) {
    fwrite(STDERR, "usage: examples/listen.php bookmark-file\n");
    exit(2);
}
set_error_handler(fn ($level, $message) => throw new ErrorException($message)); // also for a connection that is gone
while (true) {
    try {
        (new Follower(pg_connect('', PGSQL_CONNECT_FORCE_NEW), $argv[1]))->follow();
    } catch (ErrorException $error) {
        fwrite(STDERR, $error->getMessage() . "\n");
        sleep(1);
    }
}
