// Go's own HTTP server, linked statically.
//
//	server PORT
//
// From Go 1.24 on it listens with MPTCP.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
)

func main() {
	slot, given := os.LookupEnv("CLINIT_SLOT")
	if !given {
		slot = "-"
	}
	http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		fmt.Fprintf(response, "pid=%d slot=%s\n", os.Getpid(), slot)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
