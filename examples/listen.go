// Follows profiles with lib/pq: LISTEN, then what changed since the bookmark, then wait. Prints "version customer", and "by" the event if it was told.
//
//	go run examples/listen.go bookmark-file     connects as libpq does: PGHOST, PGUSER, PGDATABASE, …
//
// The file keeps the bookmark; without it every profile is told first.
package main

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/lib/pq"
)

const catchUpEvery = 10 * time.Minute // what was announced while the server's queue was full, too

type event struct{ EventID, Timestamp, Source string }

func changed(customerID string, version int64, last *event) {
	if last != nil {
		fmt.Println(version, customerID, "by", last.EventID)
	} else {
		fmt.Println(version, customerID)
	}
}

func catchUp(db *sql.DB, file string) error {
	var bookmark sql.NullString
	if stored, err := os.ReadFile(file); err == nil {
		bookmark = sql.NullString{String: string(stored), Valid: true}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	rows, err := db.Query("SELECT customer_id, version, next_bookmark FROM profile_stream.profiles_changed_since($1)", bookmark)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var customerID string
		var version int64
		if err := rows.Scan(&customerID, &version, &bookmark); err != nil {
			return err
		}
		changed(customerID, version, nil)
	}
	if err := rows.Err(); err != nil || !bookmark.Valid {
		return err
	}
	// only now: everything before it has been told
	if err := os.WriteFile(file+".new", []byte(bookmark.String), 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run examples/listen.go bookmark-file")
		os.Exit(2)
	}
	db, err := sql.Open("postgres", "")
	if err != nil {
		log.Fatal(err)
	}
	// connects again by itself, with LISTEN, and then delivers a nil
	listener := pq.NewListener("", 100*time.Millisecond, time.Second, func(_ pq.ListenerEventType, err error) {
		if err != nil {
			log.Print(err)
		}
	})
	var channel string
	if err := db.QueryRow("SELECT profile_stream.notification_channel()").Scan(&channel); err != nil {
		log.Fatal(err)
	}
	if err := listener.Listen(channel); err != nil {
		log.Fatal(err)
	}
	timer := time.NewTimer(0)
	for {
		select {
		case <-timer.C:
			timer.Reset(catchUpEvery)
			if err := catchUp(db, os.Args[1]); err != nil {
				log.Print(err)
				timer.Reset(time.Second)
			}
		case notification := <-listener.Notify:
			var change struct {
				CustomerID *string
				Version    int64
				LastEvent  *event
			}
			if notification != nil && json.Unmarshal([]byte(notification.Extra), &change) == nil && change.CustomerID != nil {
				changed(*change.CustomerID, change.Version, change.LastEvent)
			} else {
				timer.Reset(0) // connected again; or many at once: notify => 'batch', or swap_rebuild()
			}
		}
	}
}
