package indiegent

import (
	"context"
	"net/http"

	"bursar/core"
	"bursar/ent/apikey"
)

// Register is POST /auth/register.
func (a *api) Register(w http.ResponseWriter, r *http.Request) {
	a.signIn(w, r, http.StatusCreated, a.app.Auth.Register)
}

// Login is POST /auth/login.
func (a *api) Login(w http.ResponseWriter, r *http.Request) {
	a.signIn(w, r, http.StatusOK, a.app.Auth.Login)
}

func (a *api) signIn(w http.ResponseWriter, r *http.Request, status int, f func(context.Context, core.PasswordInput) (*core.Login, error)) {
	a.serve(w, r, status, func() (any, error) {
		var in PasswordRequest
		if err := body(w, r, &in); err != nil {
			return nil, err
		}
		l, err := f(r.Context(), core.PasswordInput{Email: in.Email, Password: in.Password})
		if err != nil {
			return nil, err
		}
		return Login{Token: l.Token, User: User{Id: l.User.ID, Email: l.User.Email, WalletAddress: l.User.WalletAddress}}, nil
	})
}

// ListAPIKeys is GET /api-keys.
func (a *api) ListAPIKeys(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusOK, func() (any, error) {
		keys, err := a.app.APIKeys.List(r.Context(), caller(r), apikey.KindAPIKey)
		return KeyList{ApiKeys: each(keys, keyBody)}, err
	})
}

// CreateAPIKey is POST /api-keys.
func (a *api) CreateAPIKey(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusCreated, func() (any, error) {
		var in KeyRequest
		if err := body(w, r, &in); err != nil {
			return nil, err
		}
		k, err := a.app.APIKeys.Create(r.Context(), caller(r), in.Name)
		if err != nil {
			return nil, err
		}
		return KeyCreated{Id: k.ID, Name: k.Name, Key: k.Secret}, nil
	})
}

// RevokeAPIKey is DELETE /api-keys/{id}.
func (a *api) RevokeAPIKey(w http.ResponseWriter, r *http.Request, id string) {
	a.serve(w, r, http.StatusOK, func() (any, error) {
		key, err := parseID(id, "API key")
		if err != nil {
			return nil, err
		}
		return KeyRevoked{Revoked: true}, a.app.APIKeys.Revoke(r.Context(), caller(r), apikey.KindAPIKey, key)
	})
}
