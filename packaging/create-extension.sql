CREATE EXTENSION profile_stream;
