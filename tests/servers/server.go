// Go's own HTTP server, linked statically.
//
//	[DELAY_MS=N] [GRACEFUL=1] server PORT
//
// From Go 1.24 on it listens with MPTCP. DELAY_MS: each answer takes so long.
// GRACEFUL: it ends on SIGTERM once it has answered; otherwise that kills it.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	slot, given := os.LookupEnv("CLINIT_SLOT")
	if !given {
		slot = "-"
	}
	delay, _ := strconv.Atoi(os.Getenv("DELAY_MS"))
	http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		time.Sleep(time.Duration(delay) * time.Millisecond)
		fmt.Fprintf(response, "pid=%d slot=%s\n", os.Getpid(), slot)
	})
	server := &http.Server{Addr: "127.0.0.1:" + os.Args[1]}
	over := make(chan struct{})
	if _, graceful := os.LookupEnv("GRACEFUL"); graceful {
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGTERM)
		go func() {
			<-asked
			server.Shutdown(context.Background())
			close(over)
		}()
	}
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	<-over
}
