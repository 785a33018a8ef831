package indiegent

import (
	"context"
	"net/http"

	"bursar/core"
	"bursar/ent/apikey"
)

func (a *api) register(w http.ResponseWriter, r *http.Request) {
	a.signIn(w, r, http.StatusCreated, a.app.Auth.Register)
}

func (a *api) login(w http.ResponseWriter, r *http.Request) {
	a.signIn(w, r, http.StatusOK, a.app.Auth.Login)
}

func (a *api) signIn(w http.ResponseWriter, r *http.Request, status int, f func(context.Context, core.PasswordInput) (*core.Login, error)) {
	a.serve(w, r, status, func() (any, error) {
		var in struct {
			Email    string `json:"email"`
			Password string `json:"password"`
		}
		if err := body(w, r, &in); err != nil {
			return nil, err
		}
		l, err := f(r.Context(), core.PasswordInput{Email: in.Email, Password: in.Password})
		if err != nil {
			return nil, err
		}
		return loginWire{Token: l.Token, User: userWire{ID: l.User.ID.String(), Email: l.User.Email, WalletAddress: l.User.WalletAddress}}, nil
	})
}

func (a *api) keys(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusOK, func() (any, error) {
		keys, err := a.app.APIKeys.List(r.Context(), caller(r), apikey.KindAPIKey)
		if err != nil {
			return nil, err
		}
		return map[string]any{"api_keys": each(keys, keyBody)}, nil
	})
}

func (a *api) createKey(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusCreated, func() (any, error) {
		var in struct {
			Name string `json:"name"`
		}
		if err := body(w, r, &in); err != nil {
			return nil, err
		}
		k, err := a.app.APIKeys.Create(r.Context(), caller(r), in.Name)
		if err != nil {
			return nil, err
		}
		return map[string]any{"id": k.ID.String(), "name": k.Name, "key": k.Secret}, nil
	})
}

func (a *api) revokeKey(w http.ResponseWriter, r *http.Request) {
	a.serve(w, r, http.StatusOK, func() (any, error) {
		id, err := pathID(r, "API key")
		if err != nil {
			return nil, err
		}
		return map[string]bool{"revoked": true}, a.app.APIKeys.Revoke(r.Context(), caller(r), apikey.KindAPIKey, id)
	})
}
