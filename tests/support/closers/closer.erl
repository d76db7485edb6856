#!/usr/bin/env escript
%%! +S 1 +sbwt none
%% Holds TLS sessions with Erlang's ssl: reads lines "PORT VERSION WAY ACT SIZE LINE", writes "LINE RESULT" for each.
-module(closer).
-mode(compile).
-export([main/1]).

-define(PATIENCE, 10000).

main(_) ->
    {ok, _} = application:ensure_all_started(ssl),
    logger:set_primary_config(level, none),
    each(io:get_line("")).

each(eof) ->
    ok;
each(Job) ->
    [Port, Version, Way, Act, Size, Line] = string:lexemes(Job, " \n"),
    Self = self(),
    %% A process of its own, since the session of a process that ends is one of the ways.
    {_, Monitor} = spawn_monitor(fun() ->
        Self ! {got, hold(list_to_integer(Port), list_to_atom("tlsv" ++ Version), Way, Act, list_to_integer(Size), Line)}
    end),
    receive
        {'DOWN', Monitor, process, _, normal} ->
            receive {got, Got} -> io:format("~s ~b~n", [Line, Got]) end;
        {'DOWN', Monitor, process, _, Reason} ->
            io:format("~s ~0p~n", [Line, Reason])
    end,
    each(io:get_line("")).

hold(Port, Version, Way, Act, Size, Line) ->
    Options = [{versions, [Version]}, {verify, verify_none}, {active, false}, {mode, binary}, {nodelay, true},
               {log_level, none}],
    {ok, Tls} = ssl:connect("localhost", Port, Options, ?PATIENCE),
    ok = ssl:send(Tls, [Act, " ", integer_to_list(Size), "\n"]),
    Got = case Act of
        "answer" -> {ok, Data} = ssl:recv(Tls, Size, ?PATIENCE), byte_size(Data);
        _ -> 0
    end,
    ok = ssl:send(Tls, [Line, "\n"]),
    case Act of
        "half" -> ok = ssl:shutdown(Tls, write);
        _ -> ok
    end,
    Rest = case Act of
        "half" -> read_all(Tls, 0);
        "end" -> read_all(Tls, 0);
        _ -> 0
    end,
    close(Way, Tls),
    Got + Rest.

close("close", Tls) -> ssl:close(Tls);
close("shutdown_write", Tls) -> ssl:shutdown(Tls, write), read_all(Tls, 0), ssl:close(Tls);
close("shutdown_both", Tls) -> ssl:shutdown(Tls, read_write);
close("exit", _) -> ok.

read_all(Tls, Got) ->
    case ssl:recv(Tls, 0, ?PATIENCE) of
        {ok, Data} -> read_all(Tls, Got + byte_size(Data));
        {error, _} -> Got
    end.
