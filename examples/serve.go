// Reads profiles: from Redis, and what is not there by serve_profile(), which has the relay put it there. Never SETs a key.
//
//	go run examples/serve.go 127.0.0.1:6379 < ids     connects as libpq does: PGHOST, PGUSER, PGDATABASE, …
//
// Prints "redis" or "database" and the profile, or "unknown", a line for each id.
package main

import (
	"bufio"
	"database/sql"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/gomodule/redigo/redis"
	_ "github.com/lib/pq"
)

const prefix = "profile:" // the stream's redis_prefix

type profiles struct {
	cache *redis.Pool
	db    *sql.DB
}

func (p *profiles) cached(customerID string) (string, error) {
	connection := p.cache.Get()
	defer connection.Close()
	return redis.String(connection.Do("GET", prefix+customerID))
}

func (p *profiles) get(customerID string) (source, profile string, err error) {
	profile, err = p.cached(customerID)
	if err == nil {
		return "redis", profile, nil
	}
	if err != redis.ErrNil {
		log.Print(err) // without the cache it is slower, not wrong
	}
	var row sql.NullString
	if err = p.db.QueryRow("SELECT profile_stream.serve_profile($1)::text", customerID).Scan(&row); err != nil {
		return "", "", err
	}
	if !row.Valid {
		row.String = "unknown"
	}
	return "database", row.String, nil
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run examples/serve.go 127.0.0.1:6379 <ids")
		os.Exit(2)
	}
	db, err := sql.Open("postgres", "")
	if err != nil {
		log.Fatal(err)
	}
	limit := time.Second
	p := profiles{db: db, cache: &redis.Pool{MaxIdle: 3, Dial: func() (redis.Conn, error) {
		return redis.Dial("tcp", os.Args[1], redis.DialConnectTimeout(limit), redis.DialReadTimeout(limit))
	}}}
	for ids := bufio.NewScanner(os.Stdin); ids.Scan(); {
		source, profile, err := p.get(ids.Text())
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(source, profile)
	}
}
