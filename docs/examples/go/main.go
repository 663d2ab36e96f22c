// A job in Go, without packages: go run main.go IDENTITY ORGANIZATION PROVIDER PATH
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

type identity struct {
	Broker   string `json:"broker"`
	ClientID string `json:"client_id"`
	JWK      struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
		D   string `json:"d"`
	} `json:"jwk"`
}

// No proxy that the environment happens to name, and no redirect.
var client = &http.Client{
	Timeout:       time.Minute,
	Transport:     &http.Transport{Proxy: nil},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

var base64url = base64.RawURLEncoding

func assertion(who identity) (string, error) {
	seed, err := base64url.DecodeString(who.JWK.D)
	if err != nil || who.JWK.Alg != "EdDSA" || len(seed) != ed25519.SeedSize {
		return "", fmt.Errorf("this example signs with EdDSA alone")
	}
	jti := make([]byte, 16)
	if _, err := rand.Read(jti); err != nil {
		return "", err
	}
	now := time.Now().Unix()
	header, _ := json.Marshal(map[string]any{"typ": "client-authentication+jwt", "alg": who.JWK.Alg, "kid": who.JWK.Kid})
	claims, _ := json.Marshal(map[string]any{
		"iss": who.ClientID, "sub": who.ClientID, "aud": who.Broker,
		"iat": now - 60, "nbf": now - 60, "exp": now + 60, "jti": base64url.EncodeToString(jti),
	})
	text := base64url.EncodeToString(header) + "." + base64url.EncodeToString(claims)
	return text + "." + base64url.EncodeToString(ed25519.Sign(ed25519.NewKeyFromSeed(seed), []byte(text))), nil
}

func call(method, address, token, kind string, body io.Reader) ([]byte, error) {
	request, err := http.NewRequest(method, address, body)
	if err != nil {
		return nil, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode >= 300 {
		err = fmt.Errorf("%s %s", answer.Status, content)
	}
	return content, err
}

func run(file, organization, provider, path string) (err error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var who identity
	if err := json.Unmarshal(content, &who); err != nil {
		return err
	}
	signed, err := assertion(who)
	if err != nil {
		return err
	}
	form := url.Values{
		"grant_type":            {"client_credentials"},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {signed},
	}.Encode()
	content, err = call("POST", who.Broker+"/oauth/token", "", "application/x-www-form-urlencoded", strings.NewReader(form))
	if err != nil {
		return err
	}
	var granted struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(content, &granted); err != nil {
		return err
	}
	wanted, _ := json.Marshal(map[string]string{
		"organization": organization, "provider": provider, "purpose": "an example in Go",
	})
	content, err = call("POST", who.Broker+"/v1/leases", granted.AccessToken, "application/json", bytes.NewReader(wanted))
	if err != nil {
		return err
	}
	var issued struct {
		Lease struct {
			ID string `json:"id"`
		} `json:"lease"`
		Token    string `json:"token"`
		ProxyURL string `json:"proxy_url"`
	}
	if err := json.Unmarshal(content, &issued); err != nil {
		return err
	}
	defer func() {
		end := who.Broker + "/v1/leases/" + issued.Lease.ID + "/end"
		if _, failed := call("POST", end, granted.AccessToken, "", nil); err == nil {
			err = failed
		}
	}()
	content, err = call("GET", issued.ProxyURL+path, issued.Token, "", nil)
	if err == nil {
		fmt.Println(string(content))
	}
	return err
}

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: main IDENTITY ORGANIZATION PROVIDER PATH")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
