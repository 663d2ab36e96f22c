// What the Go team's own code says of a log of ours: its checkpoint, its tiles, a receipt, and that it only grew.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const tileHeight = 8

func read(name string) []byte {
	data, err := os.ReadFile(filepath.Join(os.Args[1], name))
	must(err)
	return data
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// tree is what a checkpoint says, if the key signed it.
func tree(signed []byte, verifier note.Verifier) tlog.Tree {
	opened, err := note.Open(signed, note.VerifierList(verifier))
	must(err)
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		log.Fatalf("not a checkpoint: %q", opened.Text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err)
	root, err := tlog.ParseHash(lines[2])
	must(err)
	return tlog.Tree{N: size, Hash: root}
}

// tiles reads files where C2SP tlog-tiles has them.
type tiles struct{}

func (tiles) Height() int { return tileHeight }

func (tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", tileHeight), "tile/", 1)
		data, err := os.ReadFile(filepath.Join(os.Args[1], path))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func hashed(parts ...[]byte) []byte {
	sum := sha256.Sum256(bytes.Join(parts, nil))
	return sum[:]
}

// receipt checks a receipt with the code of sumdb, but for its commitments.
func receipt(file []byte, verifier note.Verifier) error {
	head, signed, _ := bytes.Cut(file, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if lines[0] != "c2sp.org/tlog-proof@v1" {
		return fmt.Errorf("not a tlog-proof")
	}
	extra, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
	must(err)
	var event struct {
		Core     string `json:"core"`
		Salt     []byte `json:"salt_core"`
		Personal []byte `json:"personal_commitment"`
	}
	must(json.Unmarshal(extra, &event))
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[2], "index "), 10, 64)
	must(err)
	var proof tlog.RecordProof
	for _, line := range lines[3:] {
		hash, err := tlog.ParseHash(line)
		must(err)
		proof = append(proof, hash)
	}
	core := hashed([]byte("auditcore/v1\x00"), event.Salt, []byte(event.Core))
	entry := hashed([]byte("auditentry/v1\x00"), core, event.Personal)
	whole := tree(signed, verifier)
	return tlog.CheckRecord(proof, whole.N, whole.Hash, index, tlog.RecordHash(entry))
}

func main() {
	verifier, err := note.NewVerifier(strings.TrimSpace(string(read("key"))))
	must(err)
	whole, before := tree(read("checkpoint"), verifier), tree(read("before"), verifier)
	hashes := tlog.TileHashReader(whole, tiles{})
	entries := read("entries")
	for index := int64(0); index < whole.N; index++ {
		proof, err := tlog.ProveRecord(whole.N, index, hashes)
		must(err)
		entry := entries[32*index : 32*index+32]
		must(tlog.CheckRecord(proof, whole.N, whole.Hash, index, tlog.RecordHash(entry)))
		if tlog.CheckRecord(proof, whole.N, whole.Hash, index, tlog.RecordHash(entries[:31])) == nil {
			log.Fatal("an altered entry was accepted")
		}
	}
	grown, err := tlog.ProveTree(whole.N, before.N, hashes)
	must(err)
	must(tlog.CheckTree(grown, whole.N, whole.Hash, before.N, before.Hash))
	file := read("receipt")
	must(receipt(file, verifier))
	if receipt(bytes.Replace(file, []byte("index 2"), []byte("index 3"), 1), verifier) == nil {
		log.Fatal("a receipt of another index was accepted")
	}
	fmt.Printf("%d entries, of which %d were there before\n", whole.N, before.N)
}
