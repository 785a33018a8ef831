package core

import "bursar/ent"

// ReadEnt lets tests look at the records behind the services.
func (db *DB) ReadEnt() *ent.Client { return db.readEnt }
