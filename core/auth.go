package core

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"bursar/ent"
	"bursar/ent/apikey"
	"bursar/ent/membership"
	"bursar/ent/user"
)

// Auth turns credentials into principals.
type Auth struct{ *store }

// Bounds of credentials.
const (
	minPassword   = 8
	maxPassword   = 256
	loginValid    = 24 * time.Hour
	loginIssuer   = "bursar"
	maxHashing    = 2 // argon2id takes 64 MiB and a core: more at once would be a denial of service
	secretBytes   = 32
	maxOrgName    = 100         // characters
	touchInterval = time.Minute // last_used_at is written at most this often
)

// defaultPasswordCost is argon2id as RFC 9106 section 4 recommends it for memory-constrained servers.
var defaultPasswordCost = &argon2id.Params{Memory: 64 * 1024, Iterations: 3, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// hashing bounds how many passwords are hashed at once.
var hashing = make(chan struct{}, maxHashing)

// Login is the answer to a successful sign-in.
type Login struct {
	Token     string
	ExpiresAt time.Time
	User      *ent.User
}

// PasswordInput is an e-mail address and a password.
type PasswordInput struct{ Email, Password string }

func (in *PasswordInput) validate() error {
	in.Email = strings.ToLower(strings.TrimSpace(in.Email))
	a, err := mail.ParseAddress(in.Email)
	if err != nil || a.Address != in.Email || len(in.Email) > 254 {
		return E(InvalidRequest, "A valid email is required")
	}
	if len(in.Password) < minPassword {
		return E(InvalidRequest, "Password must have at least %d characters", minPassword)
	}
	if len(in.Password) > maxPassword {
		return E(InvalidRequest, "Password must have at most %d characters", maxPassword)
	}
	return nil
}

// Register creates a user with a personal organisation and a default wallet, and signs them in. An e-mail
// address that is taken is a conflict.
func (a *Auth) Register(ctx context.Context, in PasswordInput) (*Login, error) {
	if err := in.validate(); err != nil {
		return nil, err
	}
	hash, err := a.hash(ctx, in.Password)
	if err != nil {
		return nil, err
	}
	var u *ent.User
	err = a.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		taken, err := tx.User.Query().Where(user.Email(in.Email)).Exist(ctx)
		if err != nil {
			return err
		}
		if taken {
			return E(Conflict, "Email is already registered")
		}
		u, err = a.createUser(ctx, tx, in.Email, hash)
		return err
	})
	if ent.IsConstraintError(err) {
		return nil, E(Conflict, "Email is already registered")
	}
	if err != nil {
		return nil, err
	}
	return a.login(u)
}

func (a *Auth) createUser(ctx context.Context, tx *Tx, email, hash string) (*ent.User, error) {
	u, err := tx.User.Create().SetEmail(email).SetPasswordHash(hash).SetCreatedAt(tx.Now).Save(ctx)
	if err != nil {
		return nil, err
	}
	name := []rune(email) // which may be longer than a name
	org, err := tx.Org.Create().SetName(string(name[:min(len(name), maxOrgName)])).SetOwnerID(u.ID).SetCreatedAt(tx.Now).Save(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := tx.Membership.Create().SetOrgID(org.ID).SetUserID(u.ID).SetRole(membership.RoleOwner).SetCreatedAt(tx.Now).Save(ctx); err != nil {
		return nil, err
	}
	_, err = createAgent(ctx, a.store, tx, newAgent{OrgID: org.ID, OwnerID: u.ID, Name: "Default wallet", Slug: "default-wallet", Default: true})
	return u, err
}

func (a *Auth) hash(ctx context.Context, password string) (string, error) {
	release, err := hashSlot(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	hash, err := argon2id.CreateHash(password, a.passwordCost)
	if err != nil {
		return "", fmt.Errorf("core: hash password: %w", err)
	}
	return hash, nil
}

func hashSlot(ctx context.Context) (func(), error) {
	select {
	case hashing <- struct{}{}:
		return func() { <-hashing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// nobody is what a password is compared with when the e-mail address is unknown, so that the answer takes as
// long and tells nothing. It is the hash of a random password under defaultPasswordCost.
const nobody = "$argon2id$v=19$m=65536,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$7OU7S/azjYpnXXySR52cFWeisxk1VVjNeXqtQ8ZM/Oc"

// Login checks an e-mail address and a password. Unknown address and wrong password are one answer.
func (a *Auth) Login(ctx context.Context, in PasswordInput) (*Login, error) {
	wrong := E(Unauthorized, "Invalid email or password")
	if in.validate() != nil {
		return nil, wrong
	}
	u, err := a.db.readEnt.User.Query().Where(user.Email(in.Email)).Only(ctx)
	if err != nil && !ent.IsNotFound(err) {
		return nil, err
	}
	stored := nobody
	if u != nil && u.PasswordHash != "" {
		stored = u.PasswordHash
	}
	release, err := hashSlot(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	match, err := argon2id.ComparePasswordAndHash(in.Password, stored)
	if err != nil {
		return nil, fmt.Errorf("core: compare password: %w", err)
	}
	if !match || u == nil || stored == nobody {
		return nil, wrong
	}
	return a.login(u)
}

func (a *Auth) login(u *ent.User) (*Login, error) {
	now := a.clock().UTC()
	l := &Login{User: u, ExpiresAt: now.Add(loginValid)}
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Issuer: loginIssuer, Subject: u.ID.String(), Audience: jwt.ClaimStrings{loginIssuer},
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(l.ExpiresAt), ID: uuid.NewString(),
	})
	var err error
	if l.Token, err = t.SignedString(a.jwtSecret); err != nil {
		return nil, fmt.Errorf("core: sign login: %w", err)
	}
	return l, nil
}

// Credentials are what a request carries, by where it was found. Doors fill it in and judge nothing.
type Credentials struct {
	Bearer     string // Authorization: Bearer …
	APIKey     string // X-API-Key
	AgnicToken string // X-Agnic-Token

	Pays  bool   // the request is a call that may pay: what limits its agent is read along with the key
	Agent string // that the call names, as it names it
}

// Authenticate finds out who is calling, and until when that holds (zero: no end). A Bearer value is told apart
// by its prefix. Several credentials that name different principals are refused.
func (a *Auth) Authenticate(ctx context.Context, c Credentials) (Principal, time.Time, error) {
	var found *Principal
	var until time.Time
	for _, secret := range []string{c.Bearer, c.APIKey, c.AgnicToken} {
		if secret == "" {
			continue
		}
		p, expires, err := a.authenticate(ctx, c, secret)
		if err != nil {
			return Principal{}, time.Time{}, err
		}
		if found != nil && (found.UserID != p.UserID || found.CredentialID != p.CredentialID) {
			return Principal{}, time.Time{}, E(Unauthorized, "Several credentials that differ")
		}
		found, until = &p, expires
	}
	if found == nil {
		return Principal{}, time.Time{}, E(Unauthorized, "Authentication required")
	}
	return *found, until, nil
}

func (a *Auth) authenticate(ctx context.Context, c Credentials, secret string) (Principal, time.Time, error) {
	for _, prefix := range []string{prefixLive, prefixTest, prefixAgnic} {
		if strings.HasPrefix(secret, prefix) {
			return a.byKey(ctx, c, secret)
		}
	}
	return a.byLogin(ctx, secret)
}

func (a *Auth) byLogin(ctx context.Context, token string) (Principal, time.Time, error) {
	bad := E(Unauthorized, "Invalid or expired token")
	var claims jwt.RegisteredClaims
	_, err := jwt.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return a.jwtSecret, nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithIssuer(loginIssuer), jwt.WithAudience(loginIssuer),
		jwt.WithExpirationRequired(), jwt.WithTimeFunc(a.clock))
	if err != nil {
		return Principal{}, time.Time{}, bad
	}
	id, err := uuid.Parse(claims.Subject)
	if err != nil {
		return Principal{}, time.Time{}, bad
	}
	p, err := a.principal(ctx, id)
	p.Credential = ByLogin
	return p, claims.ExpiresAt.Time, err
}

func (a *Auth) byKey(ctx context.Context, c Credentials, secret string) (Principal, time.Time, error) {
	bad := E(Unauthorized, "Invalid or revoked API key")
	now, who := a.clock(), caller{sha256.Sum256([]byte(secret)), sha256.Sum256([]byte(c.Agent))}
	k, payer, err := a.seated(ctx, who, c.Pays)
	if err != nil {
		return Principal{}, time.Time{}, err
	}
	if k == nil || k.revoked || (k.expires.Valid && !now.Before(k.expires.Time)) {
		return Principal{}, time.Time{}, bad
	}
	p := Principal{
		UserID: k.user, OrgID: k.org, Role: k.role, Credential: ByAPIKey, CredentialID: k.id,
		Scopes: []Scope{ScopePay, ScopeBalance, ScopeTransactions}, Limits: k.limits, Networks: k.networks,
		caller: who, payer: payer, payerAt: now,
	}
	if k.kind == apikey.KindAgnicToken {
		p.Credential = ByAgnicToken
	}
	a.touch(ctx, k, now)
	return p, k.expires.Time, nil
}

// caller is a key and the agent that its request names, by their hashes: a name may be as long as a header.
type caller struct{ hash, agent [32]byte }

// seated reads a key; nil: there is none. For a call that may pay it reads what limits the agent that the same caller has
// paid for before, by one query; nil for another caller.
func (a *Auth) seated(ctx context.Context, who caller, pays bool) (*keyRow, *payer, error) {
	if agent, known := a.paidFor.get(who); pays && known {
		s, found, err := a.readers.seats.get(ctx, seat{who.hash, agent})
		if err != nil {
			return nil, nil, err
		}
		if found {
			return s.key, s.payer, nil
		}
	}
	k, _, err := a.readers.keys.get(ctx, who.hash)
	return k, nil, err
}

// touch notes the use of a key, rarely, by one of many callers, and never fails the call for it.
func (a *Auth) touch(ctx context.Context, k *keyRow, now time.Time) {
	if k.lastUsed.Valid && now.Sub(k.lastUsed.Time) < touchInterval {
		return
	}
	if last, ok := a.touched.Swap(k.id, now); ok && now.Sub(last.(time.Time)) < touchInterval {
		return
	}
	if err := a.db.writeEnt.APIKey.UpdateOneID(k.id).SetLastUsedAt(now.UTC()).Exec(ctx); err != nil {
		a.log.WarnContext(ctx, "could not note the use of a key", "key_id", k.id, "error", err)
	}
}

// principal loads a user's seat. One user has one organisation for now; the table allows more.
func (a *Auth) principal(ctx context.Context, id uuid.UUID) (Principal, error) {
	m, err := a.db.readEnt.Membership.Query().Where(membership.UserID(id)).Order(membership.ByCreatedAt()).First(ctx)
	if ent.IsNotFound(err) {
		return Principal{}, E(Unauthorized, "The user no longer exists")
	}
	if err != nil {
		return Principal{}, err
	}
	return Principal{
		UserID: id, OrgID: m.OrgID, Role: Role(m.Role), Scopes: []Scope{ScopePay, ScopeBalance, ScopeTransactions},
	}, nil
}

// User returns the principal's user record.
func (a *Auth) User(ctx context.Context, p Principal) (*ent.User, error) {
	u, err := a.db.readEnt.User.Get(ctx, p.UserID)
	return u, missing(err, "User")
}

// SetWallet stores the address that the user's drains go to. It needs a login.
func (a *Auth) SetWallet(ctx context.Context, p Principal, address string) (*ent.User, error) {
	if err := p.needPerson(); err != nil {
		return nil, err
	}
	to, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	if to == a.keys.platformAddress() || a.keys.relays(to) {
		return nil, E(InvalidRequest, "That address belongs to this server")
	}
	var u *ent.User
	err = a.inTx(ctx, func(ctx context.Context, tx *Tx) error {
		if u, err = tx.User.UpdateOneID(p.UserID).SetWalletAddress(to.Hex()).Save(ctx); err != nil {
			return err
		}
		return tx.audit(ctx, p, "user.wallet", p.UserID)
	})
	return u, err
}

func hashSecret(secret string) []byte {
	h := sha256.Sum256([]byte(secret))
	return h[:]
}

func newSecret(prefix string) (string, error) {
	b := make([]byte, secretBytes)
	if _, err := rand.Read(b); err != nil {
		return "", errors.Join(errors.New("core: no randomness"), err)
	}
	return prefix + hex.EncodeToString(b), nil
}
